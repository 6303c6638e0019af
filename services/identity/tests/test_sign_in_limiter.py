"""The limiter of sign-ins in one process."""

from contextlib import ExitStack

import pytest

from services.identity.errors import PasswordQueueFull
from services.identity.service.sign_in_limiter import (
    MAX_KNOWN_NETWORKS,
    MAX_SIGN_INS,
    MAX_UNKNOWN_SIGN_INS,
    SignInLimiter,
)


def test_strangers_leave_places_to_the_known() -> None:
    limiter = SignInLimiter()
    limiter.remember_network("198.51.100.7")
    with ExitStack() as inside:
        for _ in range(MAX_UNKNOWN_SIGN_INS):
            inside.enter_context(limiter.admitted("203.0.113.9", by_known_device=False))
        with pytest.raises(PasswordQueueFull):
            inside.enter_context(limiter.admitted("203.0.113.9", by_known_device=False))
        inside.enter_context(limiter.admitted("198.51.100.7", by_known_device=False))
        for _ in range(MAX_SIGN_INS - MAX_UNKNOWN_SIGN_INS - 1):
            inside.enter_context(limiter.admitted("203.0.113.9", by_known_device=True))
        with pytest.raises(PasswordQueueFull):
            inside.enter_context(limiter.admitted("198.51.100.7", by_known_device=True))
    with limiter.admitted("203.0.113.9", by_known_device=False):
        pass


def test_the_memory_of_networks_is_bounded() -> None:
    limiter = SignInLimiter()
    for number in range(MAX_KNOWN_NETWORKS + 1):
        limiter.remember_network(f"network {number}")
    with ExitStack() as inside:
        for _ in range(MAX_UNKNOWN_SIGN_INS):
            inside.enter_context(limiter.admitted("anywhere", by_known_device=False))
        with pytest.raises(PasswordQueueFull):
            inside.enter_context(limiter.admitted("network 0", by_known_device=False))
        inside.enter_context(limiter.admitted("network 1", by_known_device=False))
