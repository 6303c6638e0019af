"""Which access tokens are void before their time."""

import time
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from gateway.errors import RevocationsUnknown
from shared.actors import Actor
from shared.errors import Unauthenticated

# A token lives ten minutes, and clocks differ: after this no token is left that an entry is about.
REMEMBERED = 660.0  # seconds

Key = TypeVar("Key")
Clock = Callable[[], float]


class Fading(dict[Key, float], Generic[Key]):
    """Values by key that are forgotten some time after they were last noted."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self._noted_at: dict[Key, float] = {}  # the oldest first

    def note(self, key: Key, value: float = 0.0) -> None:
        """Keep a value, the larger one when there is one already."""
        self[key] = max(value, self.get(key, value))
        self._noted_at.pop(key, None)
        self._noted_at[key] = self._clock()

    def drop(self, key: Key) -> None:
        """Forget one now."""
        self.pop(key, None)
        self._noted_at.pop(key, None)

    def forget_old(self) -> None:
        """Forget what was noted too long ago to matter."""
        deadline = self._clock() - REMEMBERED
        while self._noted_at:
            key = next(iter(self._noted_at))
            if self._noted_at[key] > deadline:
                return
            self.drop(key)


class Revocations:
    """What a gateway knows of ended sessions, changed users and closed organizations.

    It also knows until when it knows: after `blind_limit` seconds without news it trusts nobody.
    """

    def __init__(self, *, blind_limit: float, clock: Clock = time.monotonic) -> None:
        self._blind_limit = blind_limit
        self._clock = clock
        self._known_until = float("-inf")
        self._sessions: Fading[str] = Fading(clock)
        self._users: Fading[int] = Fading(clock)
        # Which version of an organization closed it, and which opened it again.
        self._organizations: Fading[int] = Fading(clock)
        self._reopened: Fading[int] = Fading(clock)

    @property
    def known(self) -> bool:
        """Whether the news are recent enough to tell a void token from a good one."""
        return self._clock() - self._known_until <= self._blind_limit

    def check(self, actor: Actor) -> None:
        """Raise Unauthenticated (401) for a void token, RevocationsUnknown (503) when blind."""
        if not self.known:
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
            self._sessions.note(session_id)

    def renew_user(self, user_id: int, not_before: float) -> None:
        """A user's tokens issued earlier are void; in seconds since 1970, to the millisecond.

        Tokens tell milliseconds too: rounded alike, one issued afterwards is never the earlier.
        """
        self._users.note(user_id, round(not_before, 3))

    def close_organization(self, organization_id: int, version: int | None) -> None:
        """Tokens of its members are void, unless it is known to have opened again since.

        Identity's list may say what was so before the event came; without a version it counts.
        """
        if version is None or version > self._reopened.get(organization_id, 0):
            self._organizations.note(organization_id, version or 0)

    def reopen_organization(self, organization_id: int, version: int) -> None:
        """Tokens of its members count again, unless it is known to have closed since."""
        self._reopened.note(organization_id, version)
        if version > self._organizations.get(organization_id, 0):
            self._organizations.drop(organization_id)

    def up_to_date(self, asked_at: float) -> None:
        """Everything that was revoked before this instant of the clock has been told."""
        self._known_until = max(self._known_until, asked_at)
        for entries in (self._sessions, self._users, self._organizations, self._reopened):
            entries.forget_old()
