"""Queries of payouts, of their lines, and of the accounts whose balances are read."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Row, func, or_, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from services.payments.gateways import BalanceLine
from services.payments.models import (
    AccountStatus,
    PaymentAccount,
    Payout,
    PayoutLine,
    Reconciliation,
)

LINES_AT_ONCE = 1000
"""A statement has at most 32,767 parameters, and a line has 19."""


async def lock_unread_accounts(
    session: AsyncSession, gateway: str, checked_before: datetime, limit: int, *, live: bool
) -> Sequence[PaymentAccount]:
    """Return connected accounts whose balances are due to be read, locked, longest first."""
    account = PaymentAccount
    statement = (
        select(account)
        .where(
            account.payment_gateway == gateway,
            account.live == live,
            account.status == AccountStatus.CONNECTED,
            or_(
                account.balance_checked_at.is_(None),
                account.balance_checked_at < checked_before,
            ),
        )
        .order_by(account.balance_checked_at.asc().nulls_first(), account.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return (await session.scalars(statement)).all()


async def list_accounts_with_unknown_lines(
    session: AsyncSession, gateways: Sequence[str], since: datetime
) -> Sequence[Row[str, str]]:
    """Return gateway and account of lines since an instant that our books do not have."""
    line = PayoutLine
    statement = (
        select(line.payment_gateway, line.gateway_account)
        .where(~line.is_known, line.payment_gateway.in_(gateways), line.occurred_at > since)
        .distinct()
    )
    return (await session.execute(statement)).all()


async def lock_payout(session: AsyncSession, gateway: str, gateway_id: str) -> Payout | None:
    """Return the payout that a gateway knows by this id, locked, or None."""
    statement = select(Payout).where(
        Payout.payment_gateway == gateway, Payout.gateway_payout_id == gateway_id
    )
    return await session.scalar(statement.with_for_update())


async def lock_payouts(session: AsyncSession, ids: Iterable[int]) -> Sequence[Payout]:
    """Return payouts, locked in the order of their ids."""
    statement = select(Payout).where(Payout.id.in_(list(ids))).order_by(Payout.id)
    return (await session.scalars(statement.with_for_update())).all()


async def list_payout_states(
    session: AsyncSession, gateway: str, gateway_ids: Sequence[str]
) -> dict[str, tuple[str, str]]:
    """Return status and reconciliation of the stored ones among a gateway's payouts, by its ids."""
    statement = select(Payout.gateway_payout_id, Payout.status, Payout.reconciliation).where(
        Payout.payment_gateway == gateway, Payout.gateway_payout_id.in_(gateway_ids)
    )
    return {row[0]: (row[1], row[2]) for row in await session.execute(statement)}


async def store_lines(
    session: AsyncSession,
    account: PaymentAccount,
    lines: Sequence[BalanceLine],
    payout: Payout | None = None,
) -> None:
    """Store changes of an account's balance, as a part of a payout if there is one.

    The line of the payout itself is not a part of it. The account must be locked.
    """
    for start in range(0, len(lines), LINES_AT_ONCE):
        batch = lines[start : start + LINES_AT_ONCE]
        statement = insert(PayoutLine).values([_columns(account, line, payout) for line in batch])
        part_of = statement.excluded.payout_id
        await session.execute(
            statement.on_conflict_do_update(
                index_elements=["payment_gateway", "gateway_line_id"],
                set_={"payout_id": part_of},
                where=part_of.is_not(None) & PayoutLine.payout_id.is_(None),
            )
        )


def _columns(account: PaymentAccount, line: BalanceLine, payout: Payout | None) -> dict[str, Any]:
    is_part = payout is not None and line.source_id != payout.gateway_payout_id
    return {
        "organization_id": account.organization_id,
        "payout_id": payout.id if payout is not None and is_part else None,
        "payment_gateway": account.payment_gateway,
        "gateway_account": account.gateway_account,
        "gateway_line_id": line.gateway_id,
        "gateway_source_id": line.source_id,
        "gateway_payment_id": line.payment_id,
        "kind": line.kind,
        "currency": line.currency,
        "amount": line.amount,
        "gateway_fee": line.gateway_fee,
        "platform_fee": line.platform_fee,
        "net": line.net,
        "occurred_at": line.occurred_at,
        "is_known": False,
    }


# A line of another currency was converted by the gateway: its amount cannot be compared.
_MATCH = text(
    "UPDATE payout_lines line SET transaction_id = books.transaction_id,"
    " refund_id = books.refund_id, dispute_id = books.dispute_id, is_known = books.is_known"
    " FROM (SELECT l.id, p.id AS transaction_id, r.id AS refund_id, d.id AS dispute_id,"
    "  CASE WHEN l.kind = 'payment' THEN p.id IS NOT NULL AND (l.currency <> p.currency"
    "    OR (l.amount = p.captured_amount AND l.platform_fee = p.platform_fee))"
    "   WHEN l.kind IN ('refund', 'refund_return') THEN r.id IS NOT NULL"
    "    AND (l.currency <> r.currency OR abs(l.amount) = r.amount)"
    "   WHEN l.kind = 'dispute' THEN d.id IS NOT NULL"
    "    AND (l.currency <> d.currency OR abs(l.amount) = d.amount)"
    "   ELSE l.kind <> 'other' END AS is_known"
    "  FROM payout_lines l"
    "  LEFT JOIN payment_transactions p ON p.organization_id = l.organization_id"
    "   AND p.payment_gateway = l.payment_gateway AND p.gateway_account = l.gateway_account"
    "   AND p.gateway_transaction_id = l.gateway_payment_id"
    "  LEFT JOIN refunds r ON r.transaction_id = p.id AND r.payment_gateway = l.payment_gateway"
    "   AND r.gateway_refund_id = l.gateway_source_id"
    "  LEFT JOIN disputes d ON d.transaction_id = p.id AND d.payment_gateway = l.payment_gateway"
    "   AND d.gateway_dispute_id = l.gateway_source_id"
    "  WHERE NOT l.is_known AND l.payment_gateway = :gateway AND l.gateway_account = :account"
    "   AND l.occurred_at > :since) books"
    " WHERE line.id = books.id AND (books.is_known OR (line.transaction_id, line.refund_id,"
    "  line.dispute_id) IS DISTINCT FROM (books.transaction_id, books.refund_id,"
    "  books.dispute_id))"
    " RETURNING line.payout_id"
)


async def match_lines(session: AsyncSession, account: PaymentAccount, since: datetime) -> set[int]:
    """Link an account's unknown lines since an instant to what our books have by now.

    Return the ids of the payouts that contain a changed line. The account must be locked.
    """
    parameters = {
        "gateway": account.payment_gateway,
        "account": account.gateway_account,
        "since": since,
    }
    return {row[0] for row in await session.execute(_MATCH, parameters) if row[0] is not None}


async def sum_of_lines(session: AsyncSession, payout_id: int) -> tuple[Decimal, int]:
    """Return the sum of a payout's lines, and how many of them our books do not have."""
    statement = select(
        func.coalesce(func.sum(PayoutLine.net), Decimal(0)),
        func.count().filter(~PayoutLine.is_known),
    ).where(PayoutLine.payout_id == payout_id)
    total, unknown = (await session.execute(statement)).one()
    return total, unknown


async def count_mismatched_payouts(session: AsyncSession) -> int:
    """Return how many payouts are not the sum of lines that our books have."""
    statement = select(func.count()).where(Payout.reconciliation == Reconciliation.MISMATCHED)
    return await session.scalar(statement) or 0
