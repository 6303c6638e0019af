"""The limit of sign-ins at once in this process.

A sign-in above the limit is refused before the database and the hashing are used, so that a flood
costs little. Unknown clients may take a part of the places. The others are for devices and
networks from which a user has signed in before.
"""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from services.identity.errors import PasswordQueueFull

MAX_UNKNOWN_SIGN_INS = 24
MAX_SIGN_INS = 64
MAX_KNOWN_NETWORKS = 10_000


class SignInLimiter:
    """Counts the sign-ins in progress, and stores the networks of the last successful ones."""

    def __init__(self) -> None:
        self._in_progress = 0
        self._networks: OrderedDict[str, None] = OrderedDict()

    @contextmanager
    def admitted(self, network: str, *, by_known_device: bool) -> Iterator[bool]:
        """Count a sign-in for the block; raises PasswordQueueFull when there is no place.

        Yields whether the device or the network is known.
        """
        is_known = by_known_device or network in self._networks
        if self._in_progress >= (MAX_SIGN_INS if is_known else MAX_UNKNOWN_SIGN_INS):
            raise PasswordQueueFull(retry_after=1)
        self._in_progress += 1
        try:
            yield is_known
        finally:
            self._in_progress -= 1

    def remember_network(self, network: str) -> None:
        """Store a network from which a user has just signed in."""
        self._networks[network] = None
        self._networks.move_to_end(network)
        if len(self._networks) > MAX_KNOWN_NETWORKS:
            self._networks.popitem(last=False)
