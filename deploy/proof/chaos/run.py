"""One run: create organizations, let users act, cause faults, recover, wait for rest, check."""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine
from dataclasses import dataclass
from typing import Any

from deploy.proof.chaos import checks_bookings, checks_clients, checks_money, checks_trail
from deploy.proof.chaos.checks import CheckResult, Evidence, run_checks
from deploy.proof.chaos.faults import CARD_GATEWAY, reset_watermark
from deploy.proof.chaos.injector import Injector
from deploy.proof.chaos.platform import Platform
from deploy.proof.chaos.recording import record_everything
from deploy.proof.chaos.users import Users

WARM_UP_SECONDS = 8.0
"""If RabbitMQ 3.10 is killed in the first seconds of a queue, the queue may lose its leader."""
READY_AGAIN_SECONDS = 120.0
DRAINED_SECONDS = 30.0
ANSWERED_SECONDS = 120.0
AT_REST_SECONDS = 300.0
WEBHOOK_SECONDS = 3.0
CHECKS = [
    *checks_clients.CHECKS,
    *checks_bookings.CHECKS,
    *checks_money.CHECKS,
    *checks_trail.CHECKS,
]
SETTLED = [*checks_clients.SETTLED, *checks_bookings.SETTLED]

_BACKLOG = """
SELECT count(*) AS n FROM chaos.recorded r WHERE r.seq <= $1
AND NOT EXISTS (SELECT FROM audit.audit_logs a WHERE a.event_id = r.event_id)
"""


@dataclass(frozen=True)
class RunResult:
    """The result of a run."""

    seed: int
    seconds: float
    answer_counts: dict[str, int]
    events: int
    kills: int
    faults: dict[str, int]
    missed: dict[str, int]
    points_passed: frozenset[str]
    points_killed: frozenset[str]
    commits_cut: int
    ready_after: float
    drained_after: float | None
    at_rest_after: float | None
    second_host: str
    findings: list[CheckResult]

    @property
    def in_order(self) -> bool:
        """Whether there are no violations and the system came to rest in time."""
        in_time = (
            self.drained_after is not None
            and self.drained_after <= DRAINED_SECONDS
            and self.at_rest_after is not None
        )
        return in_time and not any(finding.violations for finding in self.findings)


async def run(
    platform: Platform,
    *,
    seconds: float,
    seed: int,
    say: Callable[[str], None],
    required: Collection[str] = (),
) -> RunResult:
    """Cause faults on a platform for some seconds, then run all checks.

    A process is killed at each of the `required` fail points, even if this takes some minutes
    longer. Raises UnexpectedAnswer, TimeoutError or StartError if the system does not work before
    the faults or does not recover after them.
    """
    users = Users(platform, seed)
    injector = Injector(platform, users, seed)
    await users.create_organizations()
    if not await _eventually(platform.is_at_rest, AT_REST_SECONDS):
        raise TimeoutError
    await record_everything(platform.stack.system.database_url)
    say(f"{len(users.organizations)} organizations are ready; faults begin, for {seconds:.0f} s")
    acting = asyncio.create_task(users.run(impatient_seconds=seconds * 0.4))
    try:
        await _run_beside(acting, _cause_faults(injector, seconds, required))
        say("no more faults; waiting until the system has recovered")
        ready_after = await _recover(platform)
        users.stop(patience=ANSWERED_SECONDS)
        recovery = time.monotonic()
        drained_after = await _wait_until_drained(platform, recovery)
        await acting
    finally:
        acting.cancel()
    at_rest = await _wait_until_at_rest(platform, users, recovery)
    evidence = _evidence(platform, users)
    findings = await run_checks(CHECKS, evidence)
    faults = injector.faults
    deaths = platform.deaths()
    return RunResult(
        seed=seed,
        seconds=seconds,
        answer_counts={kind: len(users.history.of(kind)) for kind in users.history.attempts},
        events=(await platform.rows("SELECT count(*) AS n FROM chaos.recorded"))[0]["n"],
        kills=deaths + sum(faults.counts[f"{name} killed"] for name in ("process", "broker")),
        faults=dict(faults.counts),
        missed=dict(faults.missed),
        points_passed=frozenset(platform.passed_points()),
        points_killed=frozenset(platform.killed_points()),
        commits_cut=platform.database.commits_cut,
        ready_after=ready_after,
        drained_after=drained_after,
        at_rest_after=at_rest,
        second_host=platform.second_host,
        findings=findings,
    )


async def _cause_faults(injector: Injector, seconds: float, required: Collection[str]) -> None:
    await asyncio.sleep(WARM_UP_SECONDS)
    await injector.run(seconds, required=required)


async def _run_beside(acting: asyncio.Task[None], work: Coroutine[Any, Any, None]) -> None:
    """Run work while users act; an unexpected error of a user ends it at once."""
    working = asyncio.create_task(work)
    try:
        await asyncio.wait({acting, working}, return_when=asyncio.FIRST_COMPLETED)
        if acting.done():
            acting.result()
        await working
    finally:
        working.cancel()


def _evidence(platform: Platform, users: Users) -> Evidence:
    return Evidence(
        platform,
        users.history,
        tuple(organization.organization_id for organization in users.organizations),
    )


async def _recover(platform: Platform) -> float:
    """Undo what faults may have left; return the seconds until all processes are ready."""
    stack, began = platform.stack, time.monotonic()
    for proxy in (platform.database, platform.broker):
        proxy.cut_commits(0)
    for name in [*(i.name for i in stack.system.instances), "rabbitmq", CARD_GATEWAY]:
        stack.kill(name, signal.SIGCONT)
    await reset_watermark(platform)
    await stack.wait_until_ready(seconds=READY_AGAIN_SECONDS)
    return time.monotonic() - began


async def _wait_until_drained(platform: Platform, recovery: float) -> float | None:
    """Return the seconds until every earlier event is in the audit trail, or None."""
    [row] = await platform.rows("SELECT coalesce(max(seq), 0) AS last FROM chaos.recorded")

    async def drained() -> bool:
        [waiting] = await platform.rows(_BACKLOG, row["last"])
        return not waiting["n"]

    if await _eventually(drained, AT_REST_SECONDS):
        return time.monotonic() - recovery
    return None


async def _wait_until_at_rest(platform: Platform, users: Users, recovery: float) -> float | None:
    """Return the seconds until no message and no saga is unfinished, or None.

    The card gateway sends its webhooks a second later, and fallback events wait for up to a second,
    so this is checked twice.
    """
    evidence = _evidence(platform, users)

    async def settled() -> bool:
        findings = await run_checks(SETTLED, evidence)
        return not any(finding.violations for finding in findings) and await platform.is_at_rest()

    async def twice() -> bool:
        if not await settled():
            return False
        await asyncio.sleep(WEBHOOK_SECONDS)
        return await settled()

    if await _eventually(twice, AT_REST_SECONDS):
        return time.monotonic() - recovery
    return None


async def _eventually(check: Callable[[], Awaitable[bool]], seconds: float) -> bool:
    until = time.monotonic() + seconds
    while not await check():
        if time.monotonic() > until:
            return False
        await asyncio.sleep(0.3)
    return True
