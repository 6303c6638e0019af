"""The reconciler serves every connected account, whatever another one does."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from services.payments import queries
from services.payments.gateways import AccountMode, Gateways
from services.payments.service import webhooks
from services.payments.service.call_limiter import CallLimiter
from services.payments.service.reconciliation import Reconciler
from services.payments.tests.connections import connect, disconnect
from services.payments.tests.network import UnreliableNetwork, to_path
from services.payments.tests.signals import CardIssuer, order
from services.payments.tests.test_charges import charge
from shared.testing import Database, until
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio

Headers = dict[str, str]
FIRST, SECOND, THIRD = 7, 8, 9
EVENTS, REFUNDS, INTENTS = "/v1/events", "/v1/refunds", "/v1/payment_intents/"


@pytest.fixture
def accounts() -> AccountMode:
    return AccountMode.ORGANIZATION


class Observer:
    """Counts the calls of each account, and may hold those of one account to a path."""

    def __init__(self, network: UnreliableNetwork) -> None:
        self.calls: list[tuple[str, str, dict[str, str]]] = []
        self.held: tuple[str, str] | None = None
        self.release = asyncio.Event()
        network.meanwhile = self._observe

    async def _observe(self, request: httpx.Request) -> None:
        account, path = request.headers.get("stripe-account", ""), request.url.path
        self.calls.append((account, path, dict(request.url.params)))
        if self.held == (account, path):
            await self.release.wait()

    def count(self, account: str, path: str) -> int:
        """Return how many calls of an account went to a path."""
        return sum(call[:2] == (account, path) for call in self.calls)

    def order(self, path: str) -> list[str]:
        """Return the accounts of the calls that begin with a path."""
        return [account for account, called, _ in self.calls if called.startswith(path)]


@pytest.fixture
def observer(network: UnreliableNetwork) -> Observer:
    return Observer(network)


@pytest.fixture
async def three(database: Database, issuer: CardIssuer) -> list[str]:
    """The connected accounts of three organizations."""
    ids = [await issuer.account() for _ in (FIRST, SECOND, THIRD)]
    for organization_id, account in zip((FIRST, SECOND, THIRD), ids, strict=True):
        await connect(database, account, organization_id)
    return ids


async def unpaid(
    client: httpx.AsyncClient, vouchers: Headers, issuer: CardIssuer, organization_id: int, on: str
) -> dict[str, Any]:
    """Return a payment whose payer must still confirm it."""
    token = await issuer.of(on).card("4000002500003155")
    body = order(organization_id=organization_id, payment_token=token)
    return await charge(client, vouchers, body)


async def statuses(database: Database) -> dict[int, str]:
    """Return the status of each organization's payment."""
    rows = await database.rows("SELECT organization_id, status FROM payment_transactions")
    return {row["organization_id"]: row["status"] for row in rows}


async def caught_up(database: Database) -> set[str]:
    """Return the accounts whose turn was complete."""
    rows = await database.rows(
        "SELECT gateway_account FROM payment_accounts WHERE caught_up_at IS NOT NULL"
    )
    return {row["gateway_account"] for row in rows}


async def everybody_is_due(database: Database) -> None:
    await database.rows(
        "UPDATE payment_accounts SET catch_up_attempted_at = NULL WHERE true RETURNING id"
    )


async def test_what_no_webhook_brought_is_read_from_each_accounts_lists(
    client: httpx.AsyncClient,
    vouchers: Headers,
    issuer: CardIssuer,
    reconciler: Reconciler,
    transactions: Transactions,
    gateways: Gateways,
    database: Database,
    three: list[str],
) -> None:
    for organization_id, account in zip((FIRST, SECOND), three[:2], strict=True):
        waiting = await unpaid(client, vouchers, issuer, organization_id, account)
        await issuer.of(account).authenticate(waiting["next_action"], success=True)
    await reconciler.catch_up_accounts()
    await webhooks.process_due(transactions, gateways)
    assert await statuses(database) == {FIRST: "succeeded", SECOND: "succeeded"}
    [intent, *_] = await issuer.of(three[0]).intents()
    await issuer.of(three[0]).refund(intent["id"], 39999)
    await everybody_is_due(database)
    await reconciler.catch_up_accounts()
    assert await statuses(database) == {FIRST: "refunded", SECOND: "succeeded"}
    assert await caught_up(database) == set(three)
    kinds = {event["type"] for event in await database.events()}
    assert not [kind for kind in kinds if "payment_account" in kind], "a turn changes no account"


async def test_an_account_that_fails_or_is_revoked_delays_no_other(
    client: httpx.AsyncClient,
    vouchers: Headers,
    issuer: CardIssuer,
    reconciler: Reconciler,
    transactions: Transactions,
    gateways: Gateways,
    network: UnreliableNetwork,
    database: Database,
    three: list[str],
) -> None:
    revoked, failing, healthy = three
    waiting = await unpaid(client, vouchers, issuer, THIRD, healthy)
    await issuer.of(healthy).authenticate(waiting["next_action"], success=True)
    await issuer.deauthorize(revoked)
    network.lose_answer = lambda request: request.headers.get("stripe-account") == failing
    await reconciler.catch_up_accounts()
    await webhooks.process_due(transactions, gateways)
    assert await statuses(database) == {THIRD: "succeeded"}
    assert await caught_up(database) == {healthy}
    network.heal()
    await everybody_is_due(database)
    await reconciler.catch_up_accounts()
    assert await caught_up(database) == {healthy, failing}


@pytest.mark.parametrize(
    ("days_ago", "has_turn"), [(1, True), (31, False)], ids=["a-day-ago", "a-month-ago"]
)
async def test_a_disconnected_account_has_turns_for_a_month(
    reconciler: Reconciler,
    observer: Observer,
    database: Database,
    three: list[str],
    days_ago: int,
    has_turn: bool,
) -> None:
    await disconnect(database, three[0])
    await database.rows(
        "UPDATE payment_accounts SET disconnected_at = $1 WHERE gateway_account = $2 RETURNING id",
        datetime.now(UTC) - timedelta(days=days_ago),
        three[0],
    )
    await reconciler.catch_up_accounts()
    assert (observer.count(three[0], EVENTS) == 1) is has_turn
    assert observer.count(three[1], EVENTS) == 1


async def test_thousands_of_events_of_one_account_delay_no_other(
    client: httpx.AsyncClient,
    vouchers: Headers,
    issuer: CardIssuer,
    reconciler: Reconciler,
    transactions: Transactions,
    gateways: Gateways,
    observer: Observer,
    database: Database,
    three: list[str],
) -> None:
    huge, _, healthy = three
    await issuer.of(huge).customers(230)
    waiting = await unpaid(client, vouchers, issuer, THIRD, healthy)
    await issuer.of(healthy).authenticate(waiting["next_action"], success=True)
    observer.held = (huge, EVENTS)
    running = asyncio.create_task(reconciler.catch_up_accounts())

    async def others_are_served() -> bool:
        return healthy in await caught_up(database)

    await until(others_are_served)
    assert not running.done()
    observer.release.set()
    await running
    assert await caught_up(database) == set(three)
    assert observer.count(huge, EVENTS) >= 3, "one call for each hundred"
    stored = "SELECT id FROM webhook_events WHERE account = $1"
    assert len(await database.rows(stored, huge)) >= 230
    ids = await database.rows("SELECT id, account FROM webhook_events ORDER BY id")
    async with transactions.system() as session:
        due = await queries.list_waiting_webhooks(session, gateways.names, in_an_hour(), 3)
    account_of = {row["id"]: row["account"] for row in ids}
    assert {account_of[id_] for id_ in due} == set(three), "the oldest of each account is first"


def in_an_hour() -> datetime:
    return datetime.now(UTC) + timedelta(hours=1)


async def test_workers_share_the_turns(
    reconciler: Reconciler, observer: Observer, database: Database, three: list[str]
) -> None:
    await asyncio.gather(reconciler.catch_up_accounts(), reconciler.catch_up_accounts())
    await reconciler.catch_up_accounts()
    assert [observer.count(account, EVENTS) for account in three] == [1, 1, 1]
    assert await caught_up(database) == set(three)


@pytest.mark.parametrize(
    ("days_ago", "expected"),
    [(10, timedelta(days=10, hours=2)), (60, timedelta(days=30))],
    ids=["overlap", "longest"],
)
async def test_the_window_begins_before_the_last_complete_turn(
    reconciler: Reconciler,
    observer: Observer,
    database: Database,
    three: list[str],
    days_ago: int,
    expected: timedelta,
) -> None:
    moment = datetime.now(UTC)
    await database.rows(
        "UPDATE payment_accounts SET caught_up_at = $1 WHERE gateway_account = $2 RETURNING id",
        moment - timedelta(days=days_ago),
        three[0],
    )
    await reconciler.catch_up_accounts()
    [since] = [
        datetime.fromtimestamp(int(query["created[gte]"]), UTC)
        for account, path, query in observer.calls
        if (account, path) == (three[0], EVENTS)
    ]
    assert abs(moment - expected - since) < timedelta(minutes=1)


async def test_unfinished_payments_are_taken_in_turns_of_organizations(
    client: httpx.AsyncClient,
    vouchers: Headers,
    issuer: CardIssuer,
    network: UnreliableNetwork,
    reconciler: Reconciler,
    database: Database,
    three: list[str],
) -> None:
    network.lose_answer = to_path("/confirm")
    for _ in range(20):
        await charge(client, vouchers, order(organization_id=FIRST))
    for organization_id in (SECOND, THIRD):
        await charge(client, vouchers, order(organization_id=organization_id))
    network.heal()
    observer = Observer(network)
    await reconciler.settle_unfinished()
    assert set(await _all_statuses(database)) == {"succeeded"}
    first_batch = observer.order(INTENTS)[:16]
    assert {three[1], three[2]} <= set(first_batch), "they were begun last"


async def test_pending_refunds_are_taken_in_turns_of_organizations(
    client: httpx.AsyncClient,
    vouchers: Headers,
    network: UnreliableNetwork,
    reconciler: Reconciler,
    database: Database,
    three: list[str],
) -> None:
    for organization_id in [FIRST] * 20 + [SECOND]:
        await charge(client, vouchers, order(organization_id=organization_id))
    await database.rows(
        "INSERT INTO refunds (organization_id, transaction_id, client_id, amount, currency, source,"
        " status, payment_gateway, created_at, updated_at, version)"
        " SELECT organization_id, id, client_id, 1, currency, 'staff', 'pending', payment_gateway,"
        " now(), now(), 1 FROM payment_transactions ORDER BY id RETURNING id"
    )
    observer = Observer(network)
    await reconciler.settle_refunds()
    accounts_of_refunds = [account for account, path, _ in observer.calls if path == REFUNDS]
    assert three[1] in accounts_of_refunds, "its refund is the newest"
    await reconciler.settle_refunds()
    rows = await database.rows("SELECT status FROM refunds")
    assert {row["status"] for row in rows} == {"succeeded"}


async def _all_statuses(database: Database) -> list[str]:
    rows = await database.rows("SELECT status FROM payment_transactions")
    return [row["status"] for row in rows]


async def test_calls_are_spread_and_begin_in_turn() -> None:
    limiter, numbers = CallLimiter(100), list[int]()

    async def call(number: int) -> None:
        await limiter.wait()
        numbers.append(number)

    before = time.monotonic()
    await asyncio.gather(*(call(number) for number in range(11)))
    assert time.monotonic() - before >= 0.1
    assert numbers == list(range(11))
