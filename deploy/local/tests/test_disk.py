"""A full disk is refused before a start, and reported during a run."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.disk import LEAST_FREE_BYTES, require_room, watch_room
from deploy.local.errors import StartError
from shared.testing import until

pytestmark = pytest.mark.anyio


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own with a little more room than a start needs."""
    size = LEAST_FREE_BYTES + 8 * 1024 * 1024
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(tmp_path)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this user or container may not mount")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


async def test_a_full_disk_is_refused_and_reported(small_disk: Path) -> None:
    require_room(small_disk)
    messages: list[str] = []
    watching = asyncio.create_task(watch_room(small_disk, messages.append, every=0.02))
    filling = small_disk / "filling"
    with filling.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, LEAST_FREE_BYTES)
    await until(lambda: len(messages) == 1)
    with pytest.raises(StartError, match="is full"):
        require_room(small_disk)
    filling.unlink()
    await until(lambda: len(messages) == 2)
    watching.cancel()
    assert "nearly full" in messages[0]
    assert "has space again" in messages[1]
    require_room(small_disk)


def test_a_folder_with_room_is_left_as_it_was(tmp_path: Path) -> None:
    require_room(tmp_path)
    assert list(tmp_path.iterdir()) == []
