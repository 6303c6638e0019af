"""The environment of measurements, in a folder of the tests' own."""

from collections.abc import AsyncIterator

import pytest

from deploy.local.system import CHECKOUT
from deploy.proof.bench.environment import BenchEnvironment, Scale, prepared_environment

TINY = Scale(quick=True, seconds=1.0, events=100, vouchers=1_000, users=1_000, million=1_000)


@pytest.fixture
async def environment() -> AsyncIterator[BenchEnvironment]:
    """An environment for a second of load; servers start when they are needed."""
    folder = CHECKOUT / ".carnet" / "test-bench"
    async with prepared_environment(folder, TINY, print) as environment:
        yield environment
