"""Charges: an intent is prepared and its id stored, then it is confirmed and the outcome stored.

No transaction is open while the gateway is asked, and an interrupted charge can be continued:
by the same call again, by the payer, or by the reconciler.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal

import structlog
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm.exc import StaleDataError

from services.payments import access, queries
from services.payments.errors import (
    GATEWAY_SILENT,
    CardsNotAvailable,
    FirstCardUnderWay,
    PaymentNotPending,
)
from services.payments.gateways import (
    AccountNotAccessible,
    ChargeOrder,
    GatewayAccount,
    GatewayRefused,
    Gateways,
    GatewayUnavailable,
    OnlineGateway,
    PaymentReport,
)
from services.payments.models import PaymentRow, PaymentTransaction, Status, row_of
from services.payments.schemas import ChargeCreate
from services.payments.service import intents, payment_accounts, payments
from services.payments.service.intents import Preparation
from services.payments.service.payments import NumberedRow, PaymentView, view_of
from services.payments.states import fail, quarantine
from shared.actors import Actor
from shared.errors import Invalid, ServiceUnavailable
from shared.failpoints import failpoint
from shared.tenancy import see_all_tenants
from shared.work import Begin, Work

log = structlog.get_logger(__name__)

CONFIRM_FIRST = (
    "The payer's bank still checks the first card. Confirm there and call again without a token. To"
    " pay with another card, cancel the voucher and buy a new one."
)

ACCOUNT_DISCONNECTED = (
    "the account was disconnected before the outcome was known; its owner finds it at the gateway"
)


@dataclass(frozen=True, slots=True)
class ChargeAttempt:
    """What a locked payment allows: to prepare it with a token, or to confirm what is prepared.

    `account` has the intent, or is to have it; None when the organization has no account that may
    charge. `fee` is what the operator takes if the intent is not prepared yet. `preparation` is
    there if the gateway was asked before the payment was locked.
    """

    gateway: OnlineGateway
    payment: PaymentRow
    account: GatewayAccount | None
    preparation: Preparation | None
    fee: Decimal = Decimal(0)

    @property
    def gateway_id(self) -> str | None:
        """The id of the intent that was committed with the payment."""
        gateway_id: str | None = self.payment["gateway_transaction_id"]
        return gateway_id


async def charge(begin: Begin, gateways: Gateways, terms: ChargeCreate) -> NumberedRow:
    """Charge a voucher, once however often it is called; return it with its invoice number.

    Raises ChargeDiffers, and ServiceUnavailable when nothing was tried: call again.
    """
    token = terms.payment_token
    preparation = await _prepare_first(begin, gateways, terms)
    async with begin() as session:
        attempt = await _begin_first(session, terms, preparation)
        payment = attempt.payment if attempt else None
        if payment is None:
            opened = await payments.open_payment(
                session, gateways, terms, attempting=token is not None
            )
            attempt = await _begin_attempt(session, gateways, opened, token, preparation)
            payment = row_of(opened)
    failpoint("charge.opened")
    if preparation is not None:
        await intents.cancel_if_unused(preparation, payment["gateway_transaction_id"])
    result = await _run_attempt(begin, attempt, token)
    if result is not None:
        return result
    async with begin() as session:
        entity, number = await queries.get_payment_with_number(session, payment["id"])
        return NumberedRow(row_of(entity), number)


async def _prepare_first(
    begin: Begin, gateways: Gateways, terms: ChargeCreate
) -> Preparation | None:
    """Prepare the payment of a new voucher, before it is stored; None when that saves nothing.

    Its id is then stored together with the payment, in one transaction.
    """
    gateway = gateways.online(gateways.for_method(terms.payment_method).name)
    if gateway is None or terms.payment_token is None or not terms.first or not terms.amount:
        return None
    charging = await payment_accounts.charging_account(
        begin, gateways, gateway, terms.organization_id
    )
    if charging is None:
        return intents.refuse(gateway)
    order = ChargeOrder(
        account=charging.account,
        transaction_id=None,
        voucher_id=terms.voucher_id,
        organization_id=terms.organization_id,
        amount=terms.amount,
        currency=terms.currency,
        description=terms.description,
        fee=charging.fee_rate.fee_of(terms.amount, terms.currency),
    )
    return await intents.prepare(gateway, order, terms.payment_token)


async def _begin_first(
    session: AsyncSession, terms: ChargeCreate, preparation: Preparation | None
) -> ChargeAttempt | None:
    """Store the payment of a voucher with the id of the intent that is prepared for it.

    Return None if there is no intent, or if the voucher has a payment already.
    """
    if preparation is None or preparation.gateway_id is None or preparation.account is None:
        return None
    await queries.lock_voucher(session, terms.voucher_id)
    if await queries.has_payment(session, terms.voucher_id):
        return None
    payment = await payments.insert_payment(
        session,
        terms,
        preparation.gateway,
        status=Status.PROCESSING,
        gateway_id=preparation.gateway_id,
        account=preparation.account,
        fee=preparation.fee,
    )
    return ChargeAttempt(preparation.gateway, payment, preparation.account, preparation)


async def confirm(
    work: Work, actor: Actor, gateways: Gateways, payment_id: int, token: SecretStr | None
) -> PaymentView:
    """Pay one's own pending payment with a token, or fetch what the bank's confirmation led to.

    Raises PaymentNotFound, Forbidden, and what `confirm_payment` raises.
    """

    @asynccontextmanager
    async def begin() -> AsyncIterator[AsyncSession]:
        # The payer's own rows are not enough: the invoice needs the organization's series.
        async with work.begin() as session:
            await see_all_tenants(session)
            yield session

    async with work.begin() as session:
        access.require_payer(actor, await queries.get_payment(session, payment_id))
    await confirm_payment(begin, gateways, payment_id, token)
    async with work.begin() as session:
        return view_of(actor, await queries.get_payment_with_number(session, payment_id))


async def confirm_payment(
    begin: Begin, gateways: Gateways, payment_id: int, token: SecretStr | None
) -> None:
    """Pay a pending payment with a token, or fetch what the bank's confirmation led to.

    Raises PaymentNotPending, FirstCardUnderWay (another token cannot be used), Invalid (a token
    is needed), CardsNotAvailable, ServiceUnavailable.
    """
    async with begin() as session:
        payment = await queries.lock_payment(session, payment_id)
    if gateways.online(payment.payment_gateway) is None or not payment.is_unfinished:
        raise PaymentNotPending
    if payment.gateway_transaction_id is None and token is None:
        raise Invalid("payment_token", "is needed to pay")
    if payment.void_requested_at is not None and token is not None:
        raise PaymentNotPending
    if payment.status == Status.REQUIRES_ACTION:
        if token is not None:
            raise FirstCardUnderWay(CONFIRM_FIRST)
        await refresh(begin, gateways, payment)
        return
    async with begin() as session:
        payment = await queries.lock_payment(session, payment_id)
        attempt = await _begin_attempt(session, gateways, payment, token)
        if attempt is not None and attempt.account is None:
            raise CardsNotAvailable  # nothing was changed: the payer can try again later
    await _run_attempt(begin, attempt, token)


async def _begin_attempt(
    session: AsyncSession,
    gateways: Gateways,
    payment: PaymentTransaction,
    token: SecretStr | None,
    preparation: Preparation | None = None,
) -> ChargeAttempt | None:
    """Record that the gateway is about to be asked; return None when there is nothing to ask.

    The payment must be new or locked. It gets the id of an intent that is prepared already.
    """
    gateway = gateways.online(payment.payment_gateway)
    is_waiting = payment.status in (Status.PENDING, Status.PROCESSING)
    if gateway is None or not is_waiting or payment.void_requested_at is not None:
        return None
    if payment.gateway_transaction_id is None and token is None:
        return None
    payments.begin_attempt(session, payment)
    if preparation is not None and preparation.gateway is not gateway:
        preparation = None  # the payment was opened with another gateway's settings
    if preparation is not None and payment.gateway_transaction_id is None:
        _store_intent(payment, preparation)
    await session.flush()
    row = row_of(payment)
    if payment.gateway_transaction_id is not None:
        return ChargeAttempt(gateway, row, payment.account, preparation)
    charging = await payment_accounts.find_charging_account(
        session, gateways, gateway, payment.organization_id
    )
    if charging is None:
        return ChargeAttempt(gateway, row, None, preparation)
    fee = charging.fee_rate.fee_of(payment.amount, payment.currency)
    return ChargeAttempt(gateway, row, charging.account, preparation, fee)


def _store_intent(payment: PaymentTransaction, preparation: Preparation) -> None:
    """Store the intent that is prepared for a locked payment, if there is one."""
    if preparation.gateway_id is None:
        return
    payment.gateway_transaction_id = preparation.gateway_id
    payment.gateway_account = preparation.account.id if preparation.account else None
    payment.platform_fee = preparation.fee


async def _run_attempt(
    begin: Begin, attempt: ChargeAttempt | None, token: SecretStr | None
) -> NumberedRow | None:
    """Take a payment as far as possible now; safe to repeat and to race.

    Return the payment if it was changed and is known without another look.
    """
    if attempt is None:
        return None
    gateway_id, account = attempt.gateway_id, attempt.account
    if gateway_id is None and token is not None:
        gateway_id, account = await _prepare(begin, attempt, token)
    if gateway_id is None or account is None:
        return None
    failpoint("charge.written_down")
    try:
        report = await attempt.gateway.confirm(account, gateway_id)
    except GatewayUnavailable as error:
        # Whether the card was charged is unknown: the reconciler will ask.
        log.warning("gateway_unavailable", step="confirm", cause=str(error))
        return None
    failpoint("charge.confirmed")
    if attempt.gateway_id is not None:
        return await _settle(begin, attempt, report)
    await apply_answer(begin, attempt.gateway, attempt.payment["id"], report)
    return None


async def _settle(
    begin: Begin, attempt: ChargeAttempt, report: PaymentReport
) -> NumberedRow | None:
    """Apply a gateway's answer to the payment as this call committed it, without reading it again.

    Its version shows whether another transaction has changed it since, such as a webhook's: then
    the payment is locked and read again. Return None in that case, and when nothing changed.
    """
    gateway, payment = attempt.gateway, attempt.payment
    try:
        async with begin() as session:
            result = await payments.apply_report(session, payment, report, live=gateway.live)
    except StaleDataError:
        await apply_answer(begin, gateway, payment["id"], report)
        return None
    status = result.payment["status"] if result else payment["status"]
    await _end_attempt(gateway, report, has_failed=status == Status.FAILED)
    return result


async def _prepare(
    begin: Begin, attempt: ChargeAttempt, token: SecretStr
) -> tuple[str | None, GatewayAccount]:
    """Prepare the payment at the gateway and store the id: only a stored id is ever confirmed.

    Return the id that is stored, if there is one, and the account that has it.

    Of two simultaneous attempts one is stored; the other's intent, with which nothing was charged,
    is cancelled. Raises ServiceUnavailable.
    """
    preparation = attempt.preparation or await _prepare_attempt(attempt, token)
    answer = preparation.answer
    if isinstance(answer, GatewayUnavailable):
        log.warning("gateway_unavailable", step="prepare", cause=str(answer))
        raise ServiceUnavailable(GATEWAY_SILENT) from answer
    async with begin() as session:
        payment = await queries.lock_payment(session, attempt.payment["id"])
        if payment.is_unfinished and payment.gateway_transaction_id is None:
            if isinstance(answer, GatewayRefused):
                await payments.change_payment(session, payment, fail(answer.failure))
                await payment_accounts.note_refusal(
                    session, preparation.gateway, preparation.account, answer.failure
                )
            else:
                _store_intent(payment, preparation)
    await intents.cancel_if_unused(preparation, payment.gateway_transaction_id)
    is_refused = isinstance(answer, GatewayRefused)
    return None if is_refused else payment.gateway_transaction_id, payment.account


async def _prepare_attempt(attempt: ChargeAttempt, token: SecretStr) -> Preparation:
    """Create an intent for a payment that is stored."""
    payment = attempt.payment
    if attempt.account is None:
        return intents.refuse(attempt.gateway)
    order = ChargeOrder(
        account=attempt.account,
        transaction_id=payment["id"],
        voucher_id=payment["voucher_id"],
        organization_id=payment["organization_id"],
        amount=payment["amount"],
        currency=payment["currency"],
        description=payment["description"],
        fee=attempt.fee,
    )
    return await intents.prepare(attempt.gateway, order, token)


async def refresh(
    begin: Begin, gateways: Gateways, payment: PaymentTransaction
) -> PaymentReport | None:
    """Fetch a payment's state from its gateway and apply it; None when there is no answer."""
    gateway = gateways.online(payment.payment_gateway)
    if gateway is None or payment.gateway_transaction_id is None:
        return None
    try:
        report = await gateway.look_up(payment.account, payment.gateway_transaction_id)
    except GatewayUnavailable as error:
        log.warning("gateway_unavailable", step="look_up", cause=str(error))
        if isinstance(error, AccountNotAccessible):
            await set_aside(begin, payment.id)
        return None
    await apply_answer(begin, gateway, payment.id, report)
    return report


async def set_aside(begin: Begin, payment_id: int) -> None:
    """Quarantine an unfinished payment on an account that is disconnected.

    Nobody can look it up any more except the account's owner. An account that is not accessible
    for another reason, as a wrong key of the installation, may be so again.
    """
    async with begin() as session:
        payment = await queries.lock_payment(session, payment_id)
        if payment.is_unfinished and await payment_accounts.is_disconnected(session, payment):
            step = quarantine(ACCOUNT_DISCONNECTED, Decimal(0))
            await payments.change_payment(session, payment, step)


async def apply_answer(
    begin: Begin, gateway: OnlineGateway, payment_id: int, report: PaymentReport
) -> None:
    """Apply a gateway's answer; cancel a failed intent there, so that it is not paid later."""
    async with begin() as session:
        payment = row_of(await queries.lock_payment(session, payment_id))
        result = await payments.apply_report(session, payment, report, live=gateway.live)
        status = result.payment["status"] if result else payment["status"]
    await _end_attempt(gateway, report, has_failed=status == Status.FAILED)


async def _end_attempt(gateway: OnlineGateway, report: PaymentReport, *, has_failed: bool) -> None:
    failpoint("charge.entered")
    if has_failed:
        await intents.cancel_unused(gateway, GatewayAccount(report.account), report.gateway_id)
