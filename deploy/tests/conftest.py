"""Fixtures of the local stack's tests."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deploy.local.supervisor import Supervisor


@pytest.fixture
def anyio_backend() -> str:
    """Run async tests on asyncio."""
    return "asyncio"


@pytest.fixture
def said() -> list[str]:
    """What a person was told."""
    return []


@pytest.fixture
async def supervisor(tmp_path: Path, said: list[str]) -> AsyncIterator[Supervisor]:
    """A supervisor of a folder of its own; what it started ends with the test."""
    supervisor = Supervisor(tmp_path, said.append)
    yield supervisor
    await supervisor.stop()
