"""Fixtures of the tests of chaos."""

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
    """The lines that were printed."""
    return []


@pytest.fixture
async def supervisor(tmp_path: Path, said: list[str]) -> AsyncIterator[Supervisor]:
    """A supervisor with a folder of its own; the test's end stops its processes."""
    supervisor = Supervisor(tmp_path, said.append)
    yield supervisor
    await supervisor.stop()
