"""One more gateway in front of the running system, as a second machine would have it."""

import asyncio
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from deploy.local.ports import Ports
from deploy.local.processes import before_exec
from deploy.local.stack import Stack
from deploy.local.system import CHECKOUT


@dataclass(frozen=True)
class AnotherGateway:
    """Its address, and the process."""

    address: str
    pid: int

    def peak_memory(self) -> int:
        """The most memory it ever had, in KiB (Linux)."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1])


@asynccontextmanager
async def another_gateway(stack: Stack, log: Path, **changes: str) -> AsyncIterator[AnotherGateway]:
    """A gateway process of its own, ready; `changes` are variables without `GATEWAY_`.

    Raises AssertionError, which names its log, when it ends before it is ready.
    """
    [first] = stack.system.apis("gateway")
    port = Ports(log.with_suffix(".ports")).choose("gateway")
    own = {"PORT": str(port), "OPERATIONS_PORT": "0", **changes}
    environment = stack.system.environment(first) | {f"GATEWAY_{k}": v for k, v in own.items()}
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", first.module),
            env=environment,
            cwd=CHECKOUT,
            stdout=out,
            preexec_fn=before_exec(signal.SIGKILL),
        )
    address = f"http://127.0.0.1:{port}"
    try:
        await _ready(address, process, log)
        yield AnotherGateway(address, process.pid)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _ready(address: str, process: asyncio.subprocess.Process, log: Path) -> None:
    async with asyncio.timeout(60), httpx.AsyncClient(base_url=address) as api:
        while True:
            assert process.returncode is None, f"the gateway ended: {log}"
            try:
                if (await api.get("/health/ready")).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.1)
