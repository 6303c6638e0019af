"""Waits for what a process writes."""

import asyncio
from pathlib import Path

from shared.testing import until


async def wait_for_text(file: Path, text: str) -> None:
    """Wait until a file is there and has a text in it."""

    async def is_there() -> bool:
        return await asyncio.to_thread(lambda: file.exists() and text in file.read_text())

    await until(is_there)
