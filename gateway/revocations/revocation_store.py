"""Which access tokens are void before their time."""

import time
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from gateway.errors import RevocationsUnknown
from shared.actors import Actor
from shared.errors import Unauthenticated

# A token lives ten minutes, and clocks differ: after this no token is left that an entry is about.
RETENTION = 660.0  # seconds

Key = TypeVar("Key")
Clock = Callable[[], float]


class ExpiringEntries(dict[Key, float], Generic[Key]):
    """Values by key that are forgotten some time after they were last noted."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self._recorded_at: dict[Key, float] = {}  # the oldest first

    def record(self, key: Key, value: float = 0.0) -> None:
        """Keep a value, the larger one when there is one already."""
        self[key] = max(value, self.get(key, value))
        self._recorded_at.pop(key, None)
        self._recorded_at[key] = self._clock()

    def remove(self, key: Key) -> None:
        """Forget one now."""
        self.pop(key, None)
        self._recorded_at.pop(key, None)

    def delete_expired(self) -> None:
        """Forget what was noted too long ago to matter."""
        deadline = self._clock() - RETENTION
        while self._recorded_at:
            key = next(iter(self._recorded_at))
            if self._recorded_at[key] > deadline:
                return
            self.remove(key)


class RevocationStore:
    """What a gateway knows of ended sessions, changed users and closed organizations.

    It also knows until when it knows: after `blind_limit` seconds without news it trusts nobody.
    """

    def __init__(self, *, blind_limit: float, clock: Clock = time.monotonic) -> None:
        self._blind_limit = blind_limit
        self._clock = clock
        self._current_until = float("-inf")
        self._sessions: ExpiringEntries[str] = ExpiringEntries(clock)
        self._users: ExpiringEntries[int] = ExpiringEntries(clock)
        # Which version of an organization closed it, and which opened it again.
        self._organizations: ExpiringEntries[int] = ExpiringEntries(clock)
        self._reopened: ExpiringEntries[int] = ExpiringEntries(clock)

    @property
    def is_current(self) -> bool:
        """Whether the news are recent enough to tell a void token from a good one."""
        return self._clock() - self._current_until <= self._blind_limit

    def check(self, actor: Actor) -> None:
        """Raise Unauthenticated (401) for a void token, RevocationsUnknown (503) when blind."""
        if not self.is_current:
            raise RevocationsUnknown
        if (
            actor.session_id in self._sessions
            or actor.organization_id in self._organizations
            or actor.issued_at < self._users.get(actor.user_id, 0.0)
        ):
            raise Unauthenticated("The access token was revoked.")

    def end_sessions(self, session_ids: Iterable[str]) -> None:
        """Tokens of these sessions are void."""
        for session_id in session_ids:
            self._sessions.record(session_id)

    def revoke_user_tokens_before(self, user_id: int, not_before: float) -> None:
        """A user's tokens issued earlier are void; in seconds since 1970, to the millisecond.

        Tokens tell milliseconds too: rounded alike, one issued afterwards is never the earlier.
        """
        self._users.record(user_id, round(not_before, 3))

    def close_organization(self, organization_id: int, version: int | None) -> None:
        """Tokens of its members are void, unless it is known to have opened again since.

        Identity's list may say what was so before the event came; without a version it counts.
        """
        if version is None or version > self._reopened.get(organization_id, 0):
            self._organizations.record(organization_id, version or 0)

    def reopen_organization(self, organization_id: int, version: int) -> None:
        """Tokens of its members count again, unless it is known to have closed since."""
        self._reopened.record(organization_id, version)
        if version > self._organizations.get(organization_id, 0):
            self._organizations.remove(organization_id)

    def confirm_current(self, as_of: float) -> None:
        """Everything that was revoked before this instant of the clock has been told."""
        self._current_until = max(self._current_until, as_of)
        for entries in (self._sessions, self._users, self._organizations, self._reopened):
            entries.delete_expired()
