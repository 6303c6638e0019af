"""Free space on the data folder's disk: without it every write fails, reads still work."""

import asyncio
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from deploy.local.errors import StartError

LEAST_FREE_BYTES = 300 * 1024 * 1024
"""RabbitMQ accepts no events below 200 MB (rabbitmq.py), and the servers need space to start."""

LOOK_EVERY_SECONDS = 30.0
_PROBE_BYTES = 1024 * 1024


def require_room(folder: Path) -> None:
    """Check that the disk is not full and no quota is used up. Raises StartError."""
    free = _free(folder)
    probe = folder / f".room.{os.getpid()}"
    try:
        with probe.open("wb") as file:  # free space does not show quotas, so try to write
            file.write(b"\0" * _PROBE_BYTES)
            file.flush()
            os.fsync(file.fileno())
        is_writable = True
    except OSError:
        is_writable = False
    finally:
        probe.unlink(missing_ok=True)
    if free < LEAST_FREE_BYTES or not is_writable:
        raise StartError(
            f"The disk of {folder} is full: {_megabytes(free)} are free, and a start needs "
            f"{_megabytes(LEAST_FREE_BYTES)}.",
            "Free some space, or set CARNET_DATA to a folder on another disk.",
        )


async def watch_room(
    folder: Path, say: Callable[[str], None], *, every: float = LOOK_EVERY_SECONDS
) -> None:
    """Report when the disk becomes full and when it has space again, until cancelled."""
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
                "and events will fail; free some space"
            )
        else:
            say(f"the disk of {folder} has space again ({_megabytes(free)})")


def _free(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def _megabytes(number: int) -> str:
    return f"{number // (1024 * 1024)} MB"
