"""The door before sign-in: how many are inside at once, in this process.

Whoever finds it closed is refused before the database and the hashing are touched, so that a
flood costs little. Strangers may take a part of the places; the others are for devices and
networks from which somebody has signed in before.
"""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from services.identity.errors import PasswordQueueFull

MAX_UNKNOWN_SIGN_INS = 24
MAX_SIGN_INS = 64
MAX_KNOWN_NETWORKS = 10_000


class SignInLimiter:
    """Counts who is inside, and remembers the networks of those who were let in lately."""

    def __init__(self) -> None:
        self._inside = 0
        self._networks: OrderedDict[str, None] = OrderedDict()

    @contextmanager
    def admitted(self, network: str, *, by_known_device: bool) -> Iterator[bool]:
        """Be inside for the block; raises PasswordQueueFull when there is no place.

        Yields whether somebody is known from there.
        """
        is_known = by_known_device or network in self._networks
        if self._inside >= (MAX_SIGN_INS if is_known else MAX_UNKNOWN_SIGN_INS):
            raise PasswordQueueFull(retry_after=1)
        self._inside += 1
        try:
            yield is_known
        finally:
            self._inside -= 1

    def remember_network(self, network: str) -> None:
        """Know a network from which somebody has just signed in."""
        self._networks[network] = None
        self._networks.move_to_end(network)
        if len(self._networks) > MAX_KNOWN_NETWORKS:
            self._networks.popitem(last=False)
