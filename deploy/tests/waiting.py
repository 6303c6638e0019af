"""Waits for what happens soon, but not at once."""

import asyncio
import time
from collections.abc import Awaitable, Callable


async def eventually(check: Callable[[], Awaitable[bool]], *, seconds: float = 10) -> None:
    """Wait until `check` answers true. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while True:
        if await check():
            return
        if time.monotonic() > deadline:
            raise TimeoutError
        await asyncio.sleep(0.02)
