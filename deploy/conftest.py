"""Fixtures for the tests of all folders here."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fastapi import FastAPI

from deploy.local.supervisor import Supervisor
from deploy.tests.applications import applications
from gateway.routes import Service
from shared.testing import Tokens


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


@pytest.fixture(scope="session")
def apps(tokens: Tokens) -> dict[Service, FastAPI]:
    """Every service's application; none of them is connected to anything."""
    return applications(tokens)
