"""A short run of `make chaos`: nothing is lost, invented or left unfinished.

A process is killed at each step of a sale, of a cancellation, of a refund by quote, of a founding
and of a booking, while everything else fails too. The second half shows that each check finds its
fault.
"""

import random
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest
from rich.console import Console

from deploy.local.system import CHECKOUT
from deploy.proof.chaos.checks import Evidence, StateCheck, run_checks
from deploy.proof.chaos.client import ClientAnswer, History
from deploy.proof.chaos.injector import SLOW_POINTS
from deploy.proof.chaos.platform import Platform, running_platform
from deploy.proof.chaos.points import all_points
from deploy.proof.chaos.report import show
from deploy.proof.chaos.run import CHECKS, RunResult, run
from deploy.tests.stack.conftest import IN_ONE_PROCESS

pytestmark = [pytest.mark.anyio, IN_ONE_PROCESS]

SECONDS = 25.0
_STEPS = {
    *("founding", "purchase", "charge", "cancel", "quote"),
    *("reservation", "confirmation", "cancellation", "series"),
}
REQUIRED = {
    point
    for point in all_points().keys() - SLOW_POINTS
    if point.partition(".")[0] in _STEPS or point == "request.concluded"
}
"""`purchase.settled` is before the commit of a sale and its response, `request.concluded` after."""


@pytest.fixture(scope="module")
async def platform() -> AsyncIterator[Platform]:
    """A system of its own: what happens to it would be hard on the other tests' system."""
    folder = CHECKOUT / ".carnet" / "test-chaos"
    shutil.rmtree(folder, ignore_errors=True)
    async with running_platform(folder, print) as platform:
        yield platform


@pytest.fixture(scope="module")
async def result(platform: Platform) -> RunResult:
    seed = random.SystemRandom().randrange(10**6)
    return await run(platform, seconds=SECONDS, seed=seed, say=print, required=REQUIRED)


async def test_everything_is_as_it_should_be(result: RunResult) -> None:
    show(result, Console(width=100))
    assert {f.check.name: f.examples for f in result.findings if f.violations} == {}
    assert result.drained_after is not None
    assert result.at_rest_after is not None
    assert result.in_order, "drained in time"


async def test_a_process_died_at_each_step(result: RunResult) -> None:
    assert result.points_killed >= REQUIRED
    assert result.points_passed >= all_points().keys() - SLOW_POINTS
    assert sum(result.faults.values()) > len(REQUIRED)
    assert result.answer_counts["purchase"] > 10
    assert result.answer_counts["refund-by-quote"] > 0
    assert result.answer_counts["dispute"] > 0
    assert result.answer_counts["cancellation"] > 0
    assert result.answer_counts["mark-paid"] > 0
    assert result.answer_counts["reservation"] > 10


def named(name: str) -> StateCheck:
    return next(check for check in CHECKS if check.name == name)


TAMPERINGS = [
    (
        "payments on another account than the organization's",
        "UPDATE payments.payment_transactions SET gateway_account = 'acct_other' WHERE id = ("
        "SELECT max(id) FROM payments.payment_transactions WHERE gateway_account IS NOT NULL)",
    ),
    (
        "events lost before the audit trail",
        "DELETE FROM audit.audit_logs WHERE id = (SELECT max(id) FROM audit.audit_logs)",
    ),
    (
        "events altered in transit",
        "UPDATE audit.audit_logs SET entity_id = 0"
        " WHERE id = (SELECT max(id) FROM audit.audit_logs)",
    ),
    (
        "audit rows without a recorded event",
        "DELETE FROM chaos.recorded WHERE seq = (SELECT max(seq) FROM chaos.recorded)",
    ),
    (
        "order inverted within an entity",
        "UPDATE chaos.recorded SET entity_version = 10000 WHERE seq = ("
        "SELECT min(seq) FROM chaos.recorded WHERE entity_type = 'payment_transaction')",
    ),
    (
        "events that a consumer never handled",
        "DELETE FROM vouchers.inbox WHERE event_id = ("
        "SELECT max(event_id) FROM vouchers.inbox WHERE queue = 'vouchers.payments')",
    ),
    (
        "captures that differ from the card gateway's",
        "UPDATE payments.payment_transactions SET captured_amount = captured_amount + 0.01"
        " WHERE id = (SELECT max(id) FROM payments.payment_transactions"
        " WHERE captured_amount > 0 AND payment_gateway = 'stripe')",
    ),
    (
        "vouchers active without money",
        "UPDATE vouchers.vouchers SET status = 'active', valid_from = purchase_date,"
        " valid_until = purchase_date WHERE id = ("
        "SELECT max(id) FROM vouchers.vouchers WHERE payment_status = 'failed')",
    ),
    (
        "vouchers paid and not active",
        "UPDATE vouchers.vouchers SET status = 'pending' WHERE id = ("
        "SELECT max(id) FROM vouchers.vouchers WHERE payment_status = 'paid')",
    ),
    (
        "money of cancelled vouchers that is not listed for repayment",
        "UPDATE vouchers.vouchers SET status = 'cancelled' WHERE id = ("
        "SELECT max(id) FROM vouchers.vouchers WHERE payment_status = 'paid'"
        " AND payment_method IN ('cash', 'bank_transfer'))",
    ),
    (
        "payments without their one invoice",
        "DELETE FROM payments.invoices WHERE id = ("
        "SELECT max(id) FROM payments.invoices WHERE kind = 'invoice')",
    ),
    (
        "gaps in invoice numbers",
        "DELETE FROM payments.invoices WHERE sequence = 1 AND kind = 'invoice'",
    ),
    (
        "counters that are not the sum of redemptions",
        "UPDATE vouchers.vouchers SET used_sessions = used_sessions + 1"
        " WHERE id = (SELECT max(id) FROM vouchers.vouchers WHERE used_sessions > 0"
        " AND used_sessions + refunded_sessions < total_sessions)",
    ),
    (
        "sessions withheld and never released",
        "UPDATE vouchers.refund_quotes SET status = 'taken' WHERE id = ("
        "SELECT max(id) FROM vouchers.refund_quotes)",
    ),
    (
        "quotes and their refunds that differ",
        "UPDATE vouchers.refund_quotes SET amount = amount + 0.01 WHERE id = ("
        "SELECT max(id) FROM vouchers.refund_quotes WHERE status IN ('refunded', 'failed'))",
    ),
    (
        "refunded sessions and money that do not match",
        "UPDATE vouchers.vouchers SET refunded_sessions = 0 WHERE id = ("
        "SELECT max(voucher_id) FROM vouchers.refund_quotes WHERE status = 'refunded')",
    ),
    (
        "refunded codes that do not match refunded sessions",
        "UPDATE vouchers.voucher_codes SET is_refunded = false WHERE id = ("
        "SELECT max(id) FROM vouchers.voucher_codes WHERE is_refunded)",
    ),
    (
        "disputes that differ between payments and vouchers",
        "INSERT INTO vouchers.voucher_disputes (id, organization_id, voucher_id, is_open)"
        " VALUES (1000000000, 1, 1, true)",
    ),
    (
        "vouchers on hold without a dispute, or the reverse",
        "UPDATE vouchers.vouchers SET disputed_at = now() WHERE id = ("
        "SELECT max(id) FROM vouchers.vouchers)",
    ),
    (
        "payments whose disputed amount does not match",
        "UPDATE payments.payment_transactions SET disputed_amount = disputed_amount + 0.01"
        " WHERE id = (SELECT max(id) FROM payments.payment_transactions)",
    ),
    (
        "active vouchers without their money",
        "UPDATE payments.payment_transactions SET refunded_amount = captured_amount"
        " WHERE id = (SELECT max(p.id) FROM payments.payment_transactions p"
        " JOIN vouchers.vouchers v ON v.id = p.voucher_id AND v.status = 'active')",
    ),
    (
        "refunds of disputed payments",
        "INSERT INTO payments.disputes (organization_id, transaction_id, client_id, amount,"
        " currency, status, payment_gateway, gateway_dispute_id, created_at, updated_at, version)"
        " SELECT organization_id, transaction_id, client_id, amount, currency, 'open', 'stripe',"
        " 'dp_before', created_at - interval '1 s', created_at, 1 FROM payments.refunds"
        " WHERE status = 'succeeded' ORDER BY id DESC LIMIT 1",
    ),
    (
        "unfinished payments",
        "UPDATE payments.payment_transactions SET status = 'processing' WHERE id = ("
        "SELECT max(id) FROM payments.payment_transactions)",
    ),
    (
        "sessions booked that are not the reservations",
        "UPDATE vouchers.vouchers SET booked_sessions = booked_sessions + 1 WHERE id = ("
        "SELECT max(id) FROM vouchers.vouchers WHERE total_sessions = 30"
        " AND used_sessions + refunded_sessions + booked_sessions < 30)",
    ),
    (
        "seats that are not the reservations",
        "UPDATE vouchers.sessions SET seats_taken = seats_taken - 1 WHERE id = ("
        "SELECT max(id) FROM vouchers.sessions WHERE seats_taken > 0)",
    ),
    (
        "therapists in two sessions at once",
        "ALTER TABLE vouchers.occupations DROP CONSTRAINT ex_occupations_resource;"
        "INSERT INTO vouchers.occupations (organization_id, session_id, resource_id, blocked,"
        " enforced) SELECT organization_id, 1000000000, resource_id, blocked, true"
        " FROM vouchers.occupations WHERE enforced ORDER BY session_id DESC LIMIT 1",
    ),
    (
        "places in cancelled sessions",
        "UPDATE vouchers.sessions SET status = 'cancelled' WHERE id = (SELECT max(session_id)"
        " FROM vouchers.reservations WHERE status IN ('held', 'booked'))",
    ),
    (
        "places of cancelled vouchers",
        "UPDATE vouchers.vouchers SET status = 'cancelled' WHERE id = (SELECT max(voucher_id)"
        " FROM vouchers.reservations WHERE status = 'booked' AND starts_at > now())",
    ),
    (
        "reservations settled by another redemption",
        "UPDATE vouchers.redemptions SET reservation_id = NULL WHERE id = ("
        "SELECT max(redemption_id) FROM vouchers.reservations)",
    ),
    (
        "holds that lapsed and are still held",
        "UPDATE vouchers.reservations SET status = 'held', held_for = 'checkout',"
        " held_until = now() - interval '1 s' WHERE id = ("
        "SELECT max(id) FROM vouchers.reservations WHERE status = 'booked')",
    ),
    (
        "organizations without owner, or the reverse",
        "UPDATE identity.users SET organization_id = 10000 WHERE id = ("
        "SELECT max(id) FROM identity.users WHERE email LIKE 'founded-%')",
    ),
]


DONE = ("UPDATE 1", "DELETE 1", "DELETE 2", "DELETE 3", "INSERT 0 1")

FORGED_CHAIN = (
    "UPDATE audit.audit_logs SET action = 'FORGED'"
    " WHERE id = (SELECT max(id) FROM audit.audit_logs WHERE organization_id IS NOT NULL)"
)


@dataclass(frozen=True)
class TakenBack(Evidence):
    """Evidence as a transaction sees it that is rolled back at the end."""

    connection: asyncpg.Connection

    async def rows(self, query: str, *arguments: Any) -> list[dict[str, Any]]:
        return [dict(row) for row in await self.connection.fetch(query, *arguments)]


@pytest.fixture
async def administrator(platform: Platform, result: RunResult) -> AsyncIterator[asyncpg.Connection]:
    """A connection that no trigger and no key holds back."""
    connection = await asyncpg.connect(platform.stack.system.database_url)
    await connection.execute("SET session_replication_role = replica")
    yield connection
    await connection.close()


@pytest.mark.parametrize(("name", "tampering"), TAMPERINGS, ids=[name for name, _ in TAMPERINGS])
async def test_the_checker_finds_what_is_wrong(
    platform: Platform, administrator: asyncpg.Connection, name: str, tampering: str
) -> None:
    transaction = administrator.transaction()
    await transaction.start()
    try:
        evidence = TakenBack(platform, History(), (), administrator)
        [before] = await run_checks([named(name)], evidence)
        assert not before.violations
        assert await administrator.execute(tampering) in DONE
        [after] = await run_checks([named(name)], evidence)
        assert after.violations
    finally:
        await transaction.rollback()


@pytest.mark.parametrize(
    ("name", "kind", "body"),
    [
        ("purchases lost, unexpected or twice", "purchase", {"id": 10**9}),
        ("declined cards unaccounted for", "declined later", {"id": 10**9}),
        ("cancellations lost, unexpected or twice", "cancellation", {"id": 10**9}),
        ("payments by hand lost, unexpected or twice", "mark-paid", {"id": 10**9}),
        ("redemptions lost, unexpected or twice", "redemption", {"id": 10**9}),
        ("reversals lost, unexpected or twice", "reversal", {"id": 10**9}),
        ("refunds lost, unexpected or twice", "refund", {"id": 10**9}),
        ("refunds by quote lost, unexpected or twice", "refund-by-quote", {"id": 10**9}),
        ("refund quotes lost", "quote", {"id": 10**9}),
        ("disputes lost, unexpected or twice", "dispute", {"id": "dp", "status": "open"}),
        ("vouchers redeemed during a dispute", "redemption at rest", {"id": 10**9}),
        ("renames lost", "rename", {"id": 1, "version": 10**9}),
        ("reservations lost, unexpected or twice", "reservation", {"id": 10**9}),
        ("reservations open although cancelled", "release", {"id": 10**9}),
        ("sessions open although cancelled", "session cancelled", {"id": 10**9}),
        ("organizations lost", "founding", {"id": 10**9, "owner": {"id": 1}}),
    ],
)
async def test_the_checker_misses_what_is_not_there(
    platform: Platform, result: RunResult, name: str, kind: str, body: dict[str, Any]
) -> None:
    history = History(answers=[ClientAnswer(kind, 201, body)])
    [finding] = await run_checks([named(name)], Evidence(platform, history, ()))
    assert finding.violations == 1


async def test_the_checker_finds_who_paid_for_what_is_cancelled(platform: Platform) -> None:
    paid, cancelled = (
        ClientAnswer("mark-paid", 200, {"voucher_id": 1}),
        ClientAnswer("cancellation", 200, {"id": 1}),
    )
    check = named("vouchers paid by hand and cancelled")
    [finding] = await run_checks(
        [check], Evidence(platform, History(answers=[paid, cancelled]), ())
    )
    assert finding.violations == 1


async def test_the_checker_walks_the_chains(
    platform: Platform, administrator: asyncpg.Connection
) -> None:
    """Runs last: the rest of the system is unreachable afterwards."""
    await administrator.execute(FORGED_CHAIN)
    name = "audit chains that do not verify"
    [finding] = await run_checks([named(name)], Evidence(platform, History(), ()))
    assert finding.violations == 1
