"""Every figure of which an aim is about is measured, by a second of load on the whole system."""

import time

import httpx
import pytest

from deploy.api_client import Person
from deploy.proof.bench import results
from deploy.proof.bench.environment import BenchEnvironment
from deploy.proof.bench.purchases import PURCHASES, measure_one_process, measure_system
from deploy.proof.bench.results import Outcome
from deploy.proof.bench.statement_counts import StatementCounts
from deploy.proof.bench.system_load import SignedInClient
from deploy.tests.stack.conftest import IN_ONE_PROCESS
from services.identity.security.tokens import TOKEN_SECONDS

# One folder, one database and one port file serve all tests of the bench and of the stack.
pytestmark = [pytest.mark.anyio, IN_ONE_PROCESS]

LOG = """\
2026-11-30 20:00:00.001 UTC [7] vouchers 3/10 LOG:  statement: BEGIN;SELECT set_config('a', '', t)
2026-11-30 20:00:00.002 UTC [7] vouchers 3/10 LOG:  execute __asyncpg_stmt_1__: INSERT INTO t
\tVALUES ($1)
2026-11-30 20:00:00.002 UTC [7] vouchers 3/10 DETAIL:  Parameters: $1 = '1'
2026-11-30 20:00:00.003 UTC [8] payments 4/1 LOG:  execute a: SELECT 1
2026-11-30 20:00:00.004 UTC [7] vouchers 3/10 LOG:  statement: COMMIT;
2026-11-30 20:00:00.005 UTC [7] vouchers 3/11 LOG:  statement: BEGIN;
2026-11-30 20:00:00.006 UTC [7] vouchers 3/11 ERROR:  no such table
2026-11-30 20:00:00.007 UTC [7] vouchers 3/11 LOG:  statement: ROLLBACK;
2026-11-30 20:00:00.008 UTC [9] LOG:  checkpoint starting: time
2026-11-30 20:00:00.009 UTC [7] vouchers 3/12 LOG:  statement: BEGIN;
2026-11-30 20:00:00.010 UTC [7] vouchers 3/12 LOG:  statement: ROLLBACK TO s
2026-11-30 20:00:00.011 UTC [7] vouchers 3/12 LOG:  statement: COMMIT;
"""


def test_round_trips_and_commits_are_counted_by_role() -> None:
    counts = StatementCounts.of(LOG)
    assert counts.round_trips == {"vouchers": 8, "payments": 1}
    assert counts.commits == {"vouchers": 2, "payments": 1}


async def test_a_token_is_renewed_in_time() -> None:
    tokens = (f"token {number}" for number in range(2))

    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/api/auth/login"
        return httpx.Response(200, json={"access_token": next(tokens)})

    network = httpx.MockTransport(answer)
    async with httpx.AsyncClient(base_url="http://carnet", transport=network) as api:
        person = Person(api, "Clara", "clara@example.com", "secret")
        await person.sign_in()
        client = SignedInClient(person)
        assert [await client.token(), await client.token()] == ["token 0", "token 0"]
        client.signed_in_at = time.monotonic() - TOKEN_SECONDS / 2 - 1
        assert [await client.token(), await client.token()] == ["token 1", "token 1"]


async def test_each_aim_has_its_figures(environment: BenchEnvironment) -> None:
    system = await measure_system(environment, in_detail=True)
    one_process = await measure_one_process(environment)
    measured = {"1 instance": system, "2 instances": system, "one process": one_process}
    runs = {
        variant: {name: [value] for name, value in figures.items()}
        for variant, figures in measured.items()
    }
    aims = results.aim_results(PURCHASES, Outcome("purchases", "", "", "", runs))
    assert [each.aim for each in aims] == list(PURCHASES.aims)
    assert all(each.spread.median > 0 for each in aims)
    assert system.keys() > one_process.keys()
    for name in ("vouchers_api", "payments_worker", "audit_worker", "card_gateway", "buyers"):
        assert system[f"{name}_cpu_ms"] > 0
    # A purchase commits in three services, publishes six events at most, and audit reads them all.
    assert system["commits"] >= 6
    assert system["round_trips"] > system["commits"]
    assert 5 <= system["published_messages"] <= 6
    assert system["delivered_messages"] >= system["published_messages"]
    assert (one_process["commits"], one_process["published_messages"]) == (1, 0)
