"""Asks processes whether they are ready, until they are."""

import asyncio
import contextlib
import json
from collections.abc import Iterable

from deploy.local.errors import StartError
from deploy.local.postgres import last_line
from deploy.local.supervisor import Supervisor
from deploy.local.system import Instance

# Starting again this often while somebody waits for it is not bad luck any more.
_TOO_MANY_STARTS = 3


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
    """Wait for all instances. Raises StartError that says which is not ready, and what it lacks."""
    async with asyncio.TaskGroup() as group:
        for instance in instances:
            group.create_task(_wait_for(instance, supervisor, seconds))


async def _wait_for(instance: Instance, supervisor: Supervisor, seconds: float) -> None:
    reason = "it does not answer"
    at_most = supervisor.starts(instance.name) + _TOO_MANY_STARTS
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while supervisor.starts(instance.name) < at_most:
                ready, reason = await _ask(instance)
                if ready:
                    return
                await asyncio.sleep(0.1)
    log = supervisor.log_of(instance.name)
    raise StartError(
        f"{instance.name} is not ready: {reason}. Its last words: {last_line(log)}", f"Read {log}"
    )


async def _ask(instance: Instance) -> tuple[bool, str]:
    try:
        status, body = await answer(instance.readiness_port, "/health/ready")
    except (OSError, TimeoutError):
        return False, "it does not answer"
    if status == 200:
        return True, ""
    return False, _missing(body) or f"it answers {status}"


def _missing(body: str) -> str:
    with contextlib.suppress(ValueError, LookupError, TypeError):
        return f"missing {', '.join(json.loads(body)['missing'])}"
    return ""
