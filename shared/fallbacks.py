"""Events that are only a fallback: their effect is usually there before they arrive.

A request has the effect in another service by a call, and publishes an event in case the call is
lost. So such an event may wait, and of a batch of them one statement finds those with nothing left
to do.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Generic

from sqlalchemy.ext.asyncio import AsyncSession

from shared.events import AnEvent

FALLBACK_BATCH = 100
"""How many events are looked at together at most. Twice as many are unacknowledged at most: so many
reach the broker's delivery limit together when one of them kills its consumer again and again."""


@dataclass(frozen=True, slots=True)
class Fallback(Generic[AnEvent]):
    """The event types of a queue that are only a fallback, and how they are handled.

    An event of these types waits for at least half of `linger` and at most all of it, in seconds;
    an event of another type that arrives behind it ends the wait. `find_applied` returns the ids
    of the events whose effect is there. It must lock nothing, and need not find all: the others are
    handled.
    """

    types: frozenset[str]
    linger: float
    find_applied: Callable[[AsyncSession, Sequence[AnEvent]], Awaitable[Collection[str]]]
