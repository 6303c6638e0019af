"""Gateways that share a store count together, over a real Redis.

Here and not with the gateway's other tests, because the server comes from where the local stack's
servers come from: the system, or Debian's packages unpacked.
"""

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from deploy.local import debian
from deploy.local.ports import Ports
from gateway.tests.conftest import bearer, open_stack
from gateway.tests.limits.test_quotas import statuses
from shared.testing import until

pytestmark = pytest.mark.anyio

PACKAGES = debian.Packages(
    folder="redis",
    names=("redis-server", "redis-tools"),
    dependencies=re.compile(
        r"lib(ssl|jemalloc|lua|hiredis|lzf|atomic|stdc\+\+|gcc-s|systemd|cap2).*|lua-.*"
    ),
    title="Redis (2 MB)",
    remedy="install redis-server or valkey-server so that it is on PATH",
)


@dataclass(frozen=True)
class Program:
    """The server's file, and what it needs in its environment."""

    file: str
    environment: Mapping[str, str] = field(default_factory=dict)


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    installed = shutil.which("redis-server") or shutil.which("valkey-server")
    if installed:
        return Program(installed)
    if not debian.available():
        pytest.skip("this system has no redis-server, and no Debian packages to take it from")
    root = tmp_path_factory.mktemp("redis") / "programs"
    debian.unpack(PACKAGES, root, lambda _: None, print)
    libraries = {"LD_LIBRARY_PATH": debian.libraries_in(root)}
    return Program(str(root / "usr" / "bin" / "redis-server"), libraries)


class Store:
    """A Redis server of the test's own."""

    def __init__(self, program: Program, port: int, folder: Path) -> None:
        self.program = program
        self.port = port
        self.folder = folder
        self.process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            self.program.file,
            *("--port", str(self.port), "--bind", "127.0.0.1", "--save", ""),
            cwd=self.folder,
            env={**os.environ, **self.program.environment},
            stdout=asyncio.subprocess.DEVNULL,
        )
        await until(self._answers)

    async def _answers(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True

    async def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            await self.process.wait()
            self.process = None


@pytest.fixture
async def store(program: Program, tmp_path: Path) -> AsyncIterator[Store]:
    started = Store(program, Ports(tmp_path / "ports.json").choose("store"), tmp_path)
    await started.start()
    yield started
    await started.stop()


async def test_gateways_with_a_store_count_together(store: Store) -> None:
    shared = {"limits_store": store.url, "address_limit": "4/day"}
    async with open_stack(**shared) as one, open_stack(**shared) as two:
        found = [await statuses(stack, 1) for stack in (one, two, one, two, one, two)]
        assert found == [[200]] * 4 + [[429]] * 2
        refused = await two.client.get("/api/vouchers/1", headers=bearer())
        assert 0 < int(refused.headers["retry-after"]) <= 24 * 3600


async def test_a_store_that_goes_away_lets_each_gateway_count_for_itself(store: Store) -> None:
    async with open_stack(limits_store=store.url, address_limit="2/day") as stack:
        assert await statuses(stack, 3) == [200, 200, 429]
        await store.stop()
        assert await statuses(stack, 3) == [200, 200, 429]
