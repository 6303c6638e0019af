"""Queries of organizations' accounts at gateways."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from sqlalchemy import Row, Select, bindparam, exists, func, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from services.payments.errors import PaymentAccountNotFound
from services.payments.models import (
    UNFINISHED,
    AccountStatus,
    PaymentAccount,
    PaymentTransaction,
    PlatformFee,
    Refund,
    RefundStatus,
    SellerChanges,
)
from shared.connections import execute_early

ChargingRow = Row[str | None, Decimal, Decimal, str | None]
"""An account that may charge, and the parts of its organization's fee rate; null without one."""

_CHARGING = (
    select(
        PaymentAccount.gateway_account,
        PlatformFee.percent,
        PlatformFee.fixed_amount,
        PlatformFee.fixed_currency,
    )
    .outerjoin(PlatformFee, PlatformFee.organization_id == PaymentAccount.organization_id)
    .where(
        PaymentAccount.organization_id == bindparam("organization_id"),
        PaymentAccount.payment_gateway == bindparam("gateway"),
        PaymentAccount.live == bindparam("live"),
        PaymentAccount.status == AccountStatus.CONNECTED,
        PaymentAccount.charges_enabled,
    )
)


async def find_charging_account(
    session: AsyncSession, gateway: str, organization_id: int, *, live: bool
) -> ChargingRow | None:
    """Return the account on which an organization's cards may be charged, or None."""
    parameters = {"organization_id": organization_id, "gateway": gateway, "live": live}
    return (await session.execute(_CHARGING, parameters)).one_or_none()


async def has_account(
    session: AsyncSession, gateway: str, organization_id: int, account: str
) -> bool:
    """Return whether an account is an organization's, or was before it was disconnected."""
    statement = select(PaymentAccount.id).where(
        PaymentAccount.payment_gateway == gateway,
        PaymentAccount.gateway_account == account,
        PaymentAccount.organization_id == organization_id,
    )
    return await session.scalar(statement) is not None


async def lock_organization_accounts(session: AsyncSession, organization_id: int) -> None:
    """Keep other transactions from adding an account of the organization."""
    key = f"payment_account/{int(organization_id)}"
    lock = f"SELECT pg_advisory_xact_lock(hashtextextended('{key}', 3))"
    await execute_early(session, lock)


async def lock_current_account(
    session: AsyncSession, gateway: str, organization_id: int
) -> PaymentAccount | None:
    """Return an organization's account that is not disconnected, locked, or None."""
    statement = select(PaymentAccount).where(
        PaymentAccount.organization_id == organization_id,
        PaymentAccount.payment_gateway == gateway,
        PaymentAccount.status != AccountStatus.DISCONNECTED,
    )
    return await session.scalar(statement.with_for_update())


async def lock_account(session: AsyncSession, account_id: int) -> PaymentAccount:
    """Return an account, locked; raises PaymentAccountNotFound."""
    account = await session.get(
        PaymentAccount, account_id, with_for_update=True, populate_existing=True
    )
    if account is None:
        raise PaymentAccountNotFound
    return account


async def find_latest_account(
    session: AsyncSession, gateway: str, organization_id: int
) -> PaymentAccount | None:
    """Return an organization's newest account at a gateway, disconnected or not, or None."""
    statement = select(PaymentAccount).where(
        PaymentAccount.organization_id == organization_id,
        PaymentAccount.payment_gateway == gateway,
    )
    return await session.scalar(statement.order_by(PaymentAccount.id.desc()).limit(1))


def _by_gateway_id(gateway: str, gateway_account: str) -> Select[PaymentAccount]:
    return select(PaymentAccount).where(
        PaymentAccount.payment_gateway == gateway,
        PaymentAccount.gateway_account == gateway_account,
    )


async def find_account_by_gateway_id(
    session: AsyncSession, gateway: str, gateway_account: str
) -> PaymentAccount | None:
    """Return the account that has this id at a gateway, or None."""
    return await session.scalar(_by_gateway_id(gateway, gateway_account))


async def lock_account_by_gateway_id(
    session: AsyncSession, gateway: str, gateway_account: str
) -> PaymentAccount | None:
    """Return the account that has this id at a gateway, locked, or None."""
    return await session.scalar(_by_gateway_id(gateway, gateway_account).with_for_update())


async def lock_accounts_to_refresh(
    session: AsyncSession, gateway: str, moment: datetime, limit: int, *, live: bool
) -> Sequence[PaymentAccount]:
    """Return accounts whose state is to be read again, locked, longest due first."""
    statement = (
        select(PaymentAccount)
        .where(
            PaymentAccount.payment_gateway == gateway,
            PaymentAccount.live == live,
            PaymentAccount.status != AccountStatus.DISCONNECTED,
            or_(PaymentAccount.refresh_at.is_(None), PaymentAccount.refresh_at <= moment),
        )
        .order_by(PaymentAccount.refresh_at.asc().nulls_first())
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return (await session.scalars(statement)).all()


async def has_unfinished_business(session: AsyncSession, gateway: str, account: str) -> bool:
    """Return whether a payment or a refund on an account has not ended."""
    payment = PaymentTransaction
    on_account = (payment.payment_gateway == gateway, payment.gateway_account == account)
    statement = select(
        or_(
            exists().where(*on_account, payment.status.in_(UNFINISHED)),
            exists().where(
                *on_account,
                Refund.transaction_id == payment.id,
                Refund.status == RefundStatus.PENDING,
            ),
        )
    )
    return bool(await session.scalar(statement))


async def find_organization_email(session: AsyncSession, organization_id: int) -> str | None:
    """Return an organization's e-mail address, as far as payments knows it, or None."""
    email_of_latest_seller = (
        select(PaymentTransaction.seller["email"].astext)
        .where(PaymentTransaction.organization_id == organization_id)
        .order_by(PaymentTransaction.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    present_email = (
        select(SellerChanges.changes["email"].astext)
        .where(SellerChanges.organization_id == organization_id)
        .scalar_subquery()
    )
    statement = select(func.coalesce(present_email, email_of_latest_seller))
    email: str | None = await session.scalar(statement)
    return email


async def lock_account_to_catch_up(
    session: AsyncSession,
    gateways: Sequence[tuple[str, bool]],
    attempted_before: datetime,
    disconnected_after: datetime,
) -> PaymentAccount | None:
    """Return the account whose last turn is longest ago, locked, or None if none is due.

    It is connected, or was disconnected after an instant. `gateways` are the names of those that
    are open, each with its mode (live or test).
    """
    account, attempted_at = PaymentAccount, PaymentAccount.catch_up_attempted_at
    statement = (
        select(account)
        .where(
            account.gateway_account.is_not(None),
            or_(
                account.status == AccountStatus.CONNECTED,
                account.disconnected_at > disconnected_after,
            ),
            tuple_(account.payment_gateway, account.live).in_(gateways),
            or_(attempted_at.is_(None), attempted_at < attempted_before),
        )
        .order_by(attempted_at.nulls_first(), account.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    return await session.scalar(statement)
