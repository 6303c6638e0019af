"""Recorded statements do in pgbench what they did in the service."""

import pytest

from deploy.proof.bench.environment import BenchEnvironment
from deploy.proof.bench.pgbench import pgbench
from deploy.proof.bench.recording import Rewrite, Statement
from deploy.tests.stack.conftest import IN_ONE_PROCESS

pytestmark = [pytest.mark.anyio, IN_ONE_PROCESS]


async def test_constants_with_colons_are_no_variables(environment: BenchEnvironment) -> None:
    """Each statement divides by zero if its format is not the recorded one."""
    database = await environment.database("vouchers")
    statement = Statement(
        "SELECT 1 / CAST(to_char($1::timestamp, 'HH24:MI:SS') = '01:02:03' AS integer)",
        {1: "2026-11-30 01:02:03"},
    )
    figures = await pgbench(environment, database, [statement], Rewrite(lambda *_: None))
    assert figures["per_second"] > 0
