"""The door before sign-in."""

from contextlib import ExitStack

import pytest

from services.identity.security.passwords import PasswordQueueFull
from services.identity.service.sign_in_limiter import (
    EVERYBODY,
    REMEMBERED_NETWORKS,
    STRANGERS,
    Door,
)


def test_strangers_leave_places_to_the_known() -> None:
    door = Door()
    door.remember("198.51.100.7")
    with ExitStack() as inside:
        for _ in range(STRANGERS):
            inside.enter_context(door.entered("203.0.113.9", by_known_device=False))
        with pytest.raises(PasswordQueueFull):
            inside.enter_context(door.entered("203.0.113.9", by_known_device=False))
        inside.enter_context(door.entered("198.51.100.7", by_known_device=False))
        for _ in range(EVERYBODY - STRANGERS - 1):
            inside.enter_context(door.entered("203.0.113.9", by_known_device=True))
        with pytest.raises(PasswordQueueFull):
            inside.enter_context(door.entered("198.51.100.7", by_known_device=True))
    with door.entered("203.0.113.9", by_known_device=False):
        pass


def test_the_memory_of_networks_is_bounded() -> None:
    door = Door()
    for number in range(REMEMBERED_NETWORKS + 1):
        door.remember(f"network {number}")
    with ExitStack() as inside:
        for _ in range(STRANGERS):
            inside.enter_context(door.entered("anywhere", by_known_device=False))
        with pytest.raises(PasswordQueueFull):
            inside.enter_context(door.entered("network 0", by_known_device=False))
        inside.enter_context(door.entered("network 1", by_known_device=False))
