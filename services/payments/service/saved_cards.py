"""Cards that clients store with organizations, for later payments.

Storing has the two steps of a charge: the attempt is prepared and its id is committed, then it is
confirmed. No transaction is open while the gateway is asked. What is interrupted is continued by
the client's next call, by the gateway's webhook or by the timer.
"""

from datetime import timedelta

import structlog
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncSession

from services.payments import access, queries
from services.payments.errors import (
    GATEWAY_SILENT,
    CardsNotAvailable,
    CardStorageUnavailable,
    SavedCardNotFound,
    SavedCardSettled,
)
from services.payments.gateways import (
    AccountNotAccessible,
    CardOrder,
    CardOutcome,
    CardReport,
    CardStorage,
    Failure,
    GatewayRefused,
    Gateways,
    GatewayUnavailable,
    OnlineGateway,
)
from services.payments.models import CardStatus, Method, SavedCard
from services.payments.schemas import SavedCardCreate
from services.payments.service import payment_accounts
from services.payments.service.isolation import isolated
from services.payments.telemetry import CONTRADICTIONS
from shared.actors import Actor
from shared.changes import record
from shared.db import now
from shared.errors import ServiceUnavailable
from shared.failpoints import failpoint
from shared.paging import Page
from shared.reads import Reader
from shared.transactions import Transactions
from shared.work import Begin, Work

log = structlog.get_logger(__name__)

BATCH = 16
INTERRUPTED = Failure("card_interrupted", "The card was not stored. Enter it again.")
ABANDONED = Failure("card_abandoned", "The card was not confirmed with the bank in time.")


async def list_own(reader: Reader, actor: Actor, page: Page, organization_id: int | None) -> bytes:
    """Return a page of the actor's own cards that are not removed as JSON, newest first."""
    return await queries.page_of_saved_cards(
        reader, page, actor.user_id, client_id=actor.user_id, organization_id=organization_id
    )


async def list_of_organization(
    reader: Reader, actor: Actor, organization_id: int, page: Page, client_id: int | None
) -> bytes:
    """Return a page of the cards that clients store with an organization as JSON, newest first.

    Raises OrganizationNotFound and Forbidden.
    """
    access.require_viewer(actor, organization_id)
    return await queries.page_of_saved_cards(
        reader, page, actor.user_id, client_id=client_id, organization_id=organization_id
    )


async def save(work: Work, actor: Actor, gateways: Gateways, terms: SavedCardCreate) -> SavedCard:
    """Store an own card with an organization of one's own.

    Raises OrganizationNotFound, CardsNotAvailable, CardStorageUnavailable, and ServiceUnavailable
    if the gateway does not answer: call again with the same Idempotency-Key.
    """
    access.require_member(actor, terms.organization_id)
    gateway = gateways.online(gateways.for_method(Method.CREDIT_CARD).name)
    storage = gateways.card_storage(gateway.name) if gateway else None
    if gateway is None or storage is None:
        raise CardStorageUnavailable
    # A retried request continues with the card that its Idempotency-Key belongs to.
    card_id = work.claim.resource_id if work.claim else None
    if card_id is None:
        card_id = await _insert(work, actor, gateways, gateway, terms)
    failpoint("saved_card.inserted")
    card = await _prepare(work.begin, storage, card_id, terms.payment_token)
    return await _confirm(work.begin, storage, card)


async def _insert(
    work: Work,
    actor: Actor,
    gateways: Gateways,
    gateway: OnlineGateway,
    terms: SavedCardCreate,
) -> int:
    async with work.begin() as session:
        charging = await payment_accounts.find_charging_account(
            session, gateways, gateway, terms.organization_id
        )
        if charging is None:
            raise CardsNotAvailable
        card = SavedCard(
            organization_id=terms.organization_id,
            client_id=actor.user_id,
            payment_gateway=gateway.name,
            gateway_account=charging.account.id,
            mandate_text=terms.mandate_text,
            mandate_accepted_at=now(),
        )
        session.add(card)
        await session.flush()
        record(session, "CREATE", card)
        if work.claim:
            await work.claim.attach(session, card.id)
        return card.id


async def _prepare(begin: Begin, storage: CardStorage, card_id: int, token: SecretStr) -> SavedCard:
    """Prepare a card at the gateway and store the id of the attempt, unless one is stored."""
    async with begin() as session:
        card = await queries.get_saved_card(session, card_id)
        customer = card.gateway_customer or await queries.find_customer(session, card)
    if not card.is_unfinished or card.gateway_setup is not None:
        return card
    try:
        if customer is None:
            customer = await storage.create_customer(
                card.account, card.organization_id, card.client_id
            )
        report = await storage.prepare(CardOrder(card.account, card_id, customer), token)
    except GatewayUnavailable as error:
        log.warning("gateway_unavailable", step="prepare_card", cause=str(error))
        raise ServiceUnavailable(GATEWAY_SILENT) from error
    except GatewayRefused as refusal:
        async with begin() as session:
            card = await queries.lock_saved_card(session, card_id)
            if card.is_unfinished:
                _fail(session, card, refusal.failure)
        return card
    failpoint("saved_card.prepared")
    async with begin() as session:
        card = await queries.lock_saved_card(session, card_id)
        if card.is_unfinished and card.gateway_setup is None:
            card.gateway_customer, card.gateway_setup = customer, report.setup_id
    return card


async def _confirm(begin: Begin, storage: CardStorage, card: SavedCard) -> SavedCard:
    """Confirm a prepared card and apply the result; an unknown result is left to the timer."""
    if card.gateway_setup is None or not card.is_unfinished:
        return card
    try:
        report = await storage.confirm(card.account, card.gateway_setup)
    except GatewayUnavailable as error:
        log.warning("gateway_unavailable", step="confirm_card", cause=str(error))
        return card
    failpoint("saved_card.confirmed")
    return await _apply_to(begin, card.id, report)


async def confirm(work: Work, actor: Actor, gateways: Gateways, card_id: int) -> SavedCard:
    """Fetch what the bank's confirmation of an own card led to.

    Raises SavedCardNotFound, SavedCardSettled and ServiceUnavailable.
    """
    async with work.begin() as session:
        card = await queries.get_saved_card(session, card_id)
        access.require_owner(actor, card)
    storage = gateways.card_storage(card.payment_gateway)
    if not card.is_unfinished or card.gateway_setup is None or storage is None:
        raise SavedCardSettled
    try:
        report = await storage.look_up(card.account, card.gateway_setup)
    except GatewayUnavailable as error:
        raise ServiceUnavailable(GATEWAY_SILENT) from error
    return await _apply_to(work.begin, card_id, report)


async def remove(
    work: Work,
    actor: Actor,
    gateways: Gateways,
    card_id: int,
    *,
    organization_id: int | None = None,
) -> None:
    """Remove an own card, or as staff of an organization a client's; safe to repeat.

    The card cannot be used from the commit on. The gateway deletes it at once, or the timer asks
    again. Raises OrganizationNotFound, SavedCardNotFound and Forbidden.
    """
    if organization_id is not None:
        access.require_manager(actor, organization_id)
    async with work.begin() as session:
        card = await queries.lock_saved_card(session, card_id)
        if organization_id is None:
            access.require_owner(actor, card)
        elif card.organization_id != organization_id:
            raise SavedCardNotFound
        _remove(session, card)
    failpoint("saved_card.removed")
    storage = gateways.card_storage(card.payment_gateway)
    if storage is not None:
        try:
            await _detach(work.begin, storage, card)
        except GatewayUnavailable as error:
            log.warning("gateway_unavailable", step="remove_card", cause=str(error))


async def remove_cards_of_client(session: AsyncSession, client_id: int) -> None:
    """Remove every card of a client whose account was deleted, and its digits; safe to repeat."""
    for card in await queries.lock_cards_of_client(session, client_id):
        _remove(session, card)
        card.last4 = card.exp_month = card.exp_year = None


async def apply_card_report(
    session: AsyncSession, gateway: OnlineGateway, report: CardReport
) -> bool:
    """Apply a gateway's report of a card, by its webhook; return whether it changed anything."""
    card = await queries.find_saved_card_by_setup(session, gateway.name, report.setup_id)
    if card is None:
        return False
    if report.live != gateway.live or report.account != card.gateway_account:
        CONTRADICTIONS.inc()
        log.error("saved_card_contradicted", saved_card_id=card.id)
        return False
    return _apply(session, card, report)


async def settle_unfinished(
    transactions: Transactions, gateways: Gateways, *, after: timedelta, expire_after: timedelta
) -> None:
    """Finish what was interrupted: cards not stored yet, and removed cards not deleted yet.

    A card that was not confirmed within `expire_after` fails.
    """
    while True:
        async with transactions.system() as session:
            batch = await queries.lock_unfinished_cards(
                session, gateways.names, now() - after, BATCH
            )
            for card in batch:
                card.checked_at = now()
        for card in batch:
            storage = gateways.card_storage(card.payment_gateway)
            if storage is not None:
                with isolated("saved_card", card.id):
                    await _settle(transactions.system, storage, card, expire_after)
        if len(batch) < BATCH:
            return


async def _settle(
    begin: Begin, storage: CardStorage, card: SavedCard, expire_after: timedelta
) -> None:
    try:
        if card.status == CardStatus.REMOVED:
            await _detach(begin, storage, card)
        elif card.gateway_setup is None:
            async with begin() as session:
                card = await queries.lock_saved_card(session, card.id)
                if card.is_unfinished and card.gateway_setup is None:
                    _fail(session, card, INTERRUPTED)
        elif now() - card.created_at > expire_after:
            await _apply_to(begin, card.id, await storage.cancel(card.account, card.gateway_setup))
        else:
            report = await storage.look_up(card.account, card.gateway_setup)
            await _apply_to(begin, card.id, report)
    except GatewayUnavailable as error:
        log.warning("gateway_unavailable", step="settle_card", cause=str(error))
        if isinstance(error, AccountNotAccessible):
            await _end_on_disconnected(begin, card.id)


async def _end_on_disconnected(begin: Begin, card_id: int) -> None:
    """End a card on an account that is disconnected: only its owner can use or delete it there.

    An account that is not accessible for another reason, as a wrong key of the installation, may be
    so again.
    """
    async with begin() as session:
        card = await queries.lock_saved_card(session, card_id)
        if not await payment_accounts.is_disconnected(session, card):
            return
        if card.status == CardStatus.REMOVED:
            card.detached_at = now()
        elif card.is_unfinished:
            _fail(session, card, INTERRUPTED)


async def _detach(begin: Begin, storage: CardStorage, card: SavedCard) -> None:
    """Delete a removed card at the gateway, or make sure that it is never stored there.

    Raises GatewayUnavailable.
    """
    method_id = card.gateway_method
    if method_id is None and card.gateway_setup is not None:
        report = await storage.cancel(card.account, card.gateway_setup)
        method_id = report.method_id if report.outcome is CardOutcome.STORED else None
    if method_id is not None:
        await storage.remove(card.account, method_id)
    async with begin() as session:
        (await queries.lock_saved_card(session, card.id)).detached_at = now()


async def _apply_to(begin: Begin, card_id: int, report: CardReport) -> SavedCard:
    async with begin() as session:
        card = await queries.lock_saved_card(session, card_id)
        _apply(session, card, report)
    return card


def _apply(session: AsyncSession, card: SavedCard, report: CardReport) -> bool:
    """Apply a report to a locked card; forward only. Return whether it changed anything."""
    if not card.is_unfinished:
        return False
    match report.outcome:
        case CardOutcome.STORED:
            _activate(session, card, report)
        case CardOutcome.FAILED:
            _fail(session, card, report.failure or INTERRUPTED)
        case CardOutcome.CANCELLED:
            _fail(session, card, ABANDONED)
        case CardOutcome.REQUIRES_ACTION if card.status == CardStatus.PENDING:
            card.status = CardStatus.REQUIRES_ACTION
            card.next_action = dict(report.next_action or {})
            _announce(session, "REQUIRE_ACTION", card)
        case _:
            return False
    return True


async def described(
    begin: Begin, gateways: Gateways, gateway: OnlineGateway, report: CardReport
) -> CardReport:
    """Return a webhook's report with the description of the card; raises GatewayUnavailable.

    A webhook names the card by its id alone.
    """
    async with begin() as session:
        card = await queries.find_saved_card_by_setup(session, gateway.name, report.setup_id)
    storage = gateways.card_storage(gateway.name)
    if card is None or storage is None or report.account != card.gateway_account:
        return report
    return await storage.look_up(card.account, report.setup_id)


def _activate(session: AsyncSession, card: SavedCard, report: CardReport) -> None:
    card.status = CardStatus.ACTIVE
    card.gateway_method, card.next_action = report.method_id, None
    card.brand, card.last4 = report.brand, report.last4
    card.exp_month, card.exp_year = report.exp_month, report.exp_year
    _announce(session, "ACTIVATE", card)


def _fail(session: AsyncSession, card: SavedCard, failure: Failure) -> None:
    card.status, card.next_action = CardStatus.FAILED, None
    card.failure_code, card.failure_message = failure.code, failure.message
    _announce(session, "FAIL", card)


def _remove(session: AsyncSession, card: SavedCard) -> None:
    if card.status == CardStatus.REMOVED:
        return
    card.status, card.next_action, card.removed_at = CardStatus.REMOVED, None, now()
    _announce(session, "REMOVE", card)


def _announce(session: AsyncSession, action: str, card: SavedCard) -> None:
    """Record a change of a card; its event has the fields of `SavedCardChanged`."""
    record(
        session,
        action,
        card,
        organization_id=card.organization_id,
        client_id=card.client_id,
        status=card.status,
    )
