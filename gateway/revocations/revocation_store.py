"""The access tokens that were revoked before they expire."""

import time
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from gateway.errors import RevocationsUnknown
from shared.actors import Actor
from shared.errors import Unauthenticated

# A token is valid for ten minutes, and clocks differ: after this all tokens of an entry expired.
RETENTION = 660.0  # seconds

Key = TypeVar("Key")
Clock = Callable[[], float]


class ExpiringEntries(dict[Key, float], Generic[Key]):
    """Values by key that expire some time after they were last recorded."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self._recorded_at: dict[Key, float] = {}  # the oldest first

    def record(self, key: Key, value: float = 0.0) -> None:
        """Store a value, or the larger one if the key has one."""
        self[key] = max(value, self.get(key, value))
        self._recorded_at.pop(key, None)
        self._recorded_at[key] = self._clock()

    def remove(self, key: Key) -> None:
        """Remove a key if it is there."""
        self.pop(key, None)
        self._recorded_at.pop(key, None)

    def delete_expired(self) -> None:
        """Remove the keys that were recorded more than RETENTION seconds ago."""
        deadline = self._clock() - RETENTION
        while self._recorded_at:
            key = next(iter(self._recorded_at))
            if self._recorded_at[key] > deadline:
                return
            self.remove(key)


class RevocationStore:
    """The ended sessions, changed users and closed organizations, and how current this data is.

    After `blind_limit` seconds without current data every token is refused.
    """

    def __init__(self, *, blind_limit: float, clock: Clock = time.monotonic) -> None:
        self._blind_limit = blind_limit
        self._clock = clock
        self._current_until = float("-inf")
        self._sessions: ExpiringEntries[str] = ExpiringEntries(clock)
        self._users: ExpiringEntries[int] = ExpiringEntries(clock)
        # The versions in which an organization was closed, and in which it was opened again.
        self._organizations: ExpiringEntries[int] = ExpiringEntries(clock)
        self._reopened: ExpiringEntries[int] = ExpiringEntries(clock)

    @property
    def is_current(self) -> bool:
        """Whether the data is recent enough to decide whether a token was revoked."""
        return self._clock() - self._current_until <= self._blind_limit

    def check(self, actor: Actor) -> None:
        """Raise Unauthenticated (401) if revoked, RevocationsUnknown (503) if not current."""
        if not self.is_current:
            raise RevocationsUnknown
        if (
            actor.session_id in self._sessions
            or actor.organization_id in self._organizations
            or actor.issued_at < self._users.get(actor.user_id, 0.0)
        ):
            raise Unauthenticated("The access token was revoked. Refresh it or sign in again.")

    def end_sessions(self, session_ids: Iterable[str]) -> None:
        """Revoke the tokens of these sessions."""
        for session_id in session_ids:
            self._sessions.record(session_id)

    def revoke_user_tokens_before(self, user_id: int, not_before: float) -> None:
        """Revoke a user's tokens that were issued before a time, in seconds since 1970.

        The time is rounded to milliseconds as in tokens, so that no later token is revoked.
        """
        self._users.record(user_id, round(not_before, 3))

    def close_organization(self, organization_id: int, version: int | None) -> None:
        """Revoke the tokens of its members, unless a later version opened it again.

        Identity's list may be older than the last event. Without a version it counts as newer.
        """
        if version is None or version > self._reopened.get(organization_id, 0):
            self._organizations.record(organization_id, version or 0)

    def reopen_organization(self, organization_id: int, version: int) -> None:
        """Accept the tokens of its members again, unless a later version closed it."""
        self._reopened.record(organization_id, version)
        if version > self._organizations.get(organization_id, 0):
            self._organizations.remove(organization_id)

    def confirm_current(self, as_of: float) -> None:
        """Record that all revocations before this instant of the clock are stored."""
        self._current_until = max(self._current_until, as_of)
        for entries in (self._sessions, self._users, self._organizations, self._reopened):
            entries.delete_expired()
