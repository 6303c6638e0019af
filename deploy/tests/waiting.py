"""Waits for what happens soon, but not at once."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path


async def eventually(check: Callable[[], Awaitable[bool]], *, seconds: float = 10) -> None:
    """Wait until `check` answers true. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while True:
        if await check():
            return
        if time.monotonic() > deadline:
            raise TimeoutError
        await asyncio.sleep(0.02)


async def wait_for_text(file: Path, text: str) -> None:
    """Wait until a file is there and has a text in it."""

    async def is_there() -> bool:
        return await asyncio.to_thread(lambda: file.exists() and text in file.read_text())

    await eventually(is_there)
