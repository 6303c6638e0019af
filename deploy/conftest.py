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
def messages() -> list[str]:
    """The messages for the user."""
    return []


@pytest.fixture
async def supervisor(tmp_path: Path, messages: list[str]) -> AsyncIterator[Supervisor]:
    """A supervisor of a temporary folder; its programs end with the test."""
    supervisor = Supervisor(tmp_path, messages.append)
    yield supervisor
    await supervisor.stop()


@pytest.fixture(scope="session")
def apps(tokens: Tokens) -> dict[Service, FastAPI]:
    """Every service's application; none of them is connected to anything."""
    return applications(tokens)
