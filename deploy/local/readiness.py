"""Waits until processes are ready."""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Iterable

from deploy.local.errors import StartError
from deploy.local.logs import last_line
from deploy.local.supervisor import Supervisor
from deploy.local.system import Instance

# A process that starts this often while we wait for it will not become ready.
_MOST_STARTS = 3


async def answer(port: int, path: str, *, seconds: float = 5) -> tuple[int, str]:
    """GET a path from 127.0.0.1 and return status and body. Raises OSError, TimeoutError.

    Written by hand: importing an HTTP client costs the start a quarter of a second.
    """
    async with asyncio.timeout(seconds):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(
                f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode()
            )
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
    status = head.split(b" ", 2)[1:2]
    if not status:
        raise ConnectionError("no answer")
    return int(status[0]), body.decode(errors="replace")


async def wait_until_ready(
    instances: Iterable[Instance], supervisor: Supervisor, *, seconds: float
) -> None:
    """Wait for all instances. Raises StartError that names one that is not ready, and why."""
    async with asyncio.TaskGroup() as group:
        for instance in instances:
            group.create_task(_wait_for(instance, supervisor, seconds))


async def answers_in_time(
    answers: Callable[[], Awaitable[bool]], name: str, supervisor: Supervisor, *, seconds: float
) -> bool:
    """Wait until `answers` returns True for a started program; return whether it did.

    It did not if `seconds` are over or the program was started too often.
    """
    most_starts = supervisor.starts(name) + _MOST_STARTS
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while supervisor.starts(name) < most_starts:
                if await answers():
                    return True
                await asyncio.sleep(0.05)
    return False


async def _wait_for(instance: Instance, supervisor: Supervisor, seconds: float) -> None:
    reason = "it does not answer"

    async def is_ready() -> bool:
        nonlocal reason
        try:
            status, body = await answer(instance.readiness_port, "/health/ready")
        except (OSError, TimeoutError):
            reason = "it does not answer"
            return False
        reason, missing = f"it answers {status}", ""
        with contextlib.suppress(ValueError, LookupError, TypeError):
            missing = ", ".join(json.loads(body)["missing"])
            reason = f"missing {missing}"
        # A gateway is ready without a service, but it would refuse the service's first requests.
        return status == 200 and not missing

    if not await answers_in_time(is_ready, instance.name, supervisor, seconds=seconds):
        log = supervisor.log_of(instance.name)
        raise StartError(
            f"{instance.name} is not ready: {reason}. The last line of its log: {last_line(log)}",
            f"Read {log}",
        )
