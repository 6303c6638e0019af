"""Room on the data folder's disk: without it nothing can be sold, though all still answers."""

import asyncio
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from deploy.local.errors import StartError

LEAST_FREE_BYTES = 300 * 1024 * 1024
"""RabbitMQ takes no events below 200 MB (rabbitmq.py), and the servers need some to start."""

LOOK_EVERY_SECONDS = 30.0
_PROBE_BYTES = 1024 * 1024


def require_room(folder: Path) -> None:
    """Refuse to start on a disk that is full, or where a quota is used up. Raises StartError."""
    free = _free(folder)
    if free >= LEAST_FREE_BYTES and _can_write(folder):
        return
    raise StartError(
        f"The disk of {folder} is full: {_megabytes(free)} are free, and a start needs "
        f"{_megabytes(LEAST_FREE_BYTES)}.",
        "Free some room, or set CARNET_DATA to a folder on another disk.",
    )


async def watch_room(
    folder: Path, say: Callable[[str], None], *, every: float = LOOK_EVERY_SECONDS
) -> None:
    """Say, until cancelled, when the disk gets full and when it has room again."""
    full = False
    while True:
        await asyncio.sleep(every)
        free = _free(folder)
        if (free < LEAST_FREE_BYTES) == full:
            continue
        full = not full
        if full:
            say(
                f"the disk of {folder} is nearly full ({_megabytes(free)} are free): purchases "
                "and events will fail; free some room"
            )
        else:
            say(f"the disk of {folder} has room again ({_megabytes(free)})")


def _free(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def _can_write(folder: Path) -> bool:
    """Try to write: a quota does not show in the disk's numbers."""
    probe = folder / f".room.{os.getpid()}"
    try:
        with probe.open("wb") as file:
            file.write(b"\0" * _PROBE_BYTES)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        return False
    finally:
        probe.unlink(missing_ok=True)
    return True


def _megabytes(number: int) -> str:
    return f"{number // (1024 * 1024)} MB"
