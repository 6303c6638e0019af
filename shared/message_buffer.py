"""The messages that a consumer has received and not handled yet, taken out in batches."""

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Generic

from aiormq.abc import DeliveredMessage

from shared.events import AnEvent
from shared.throttle import Throttle


@dataclass(frozen=True, slots=True)
class ReceivedMessage(Generic[AnEvent]):
    """A message with its event, or with the error that was raised when it was read."""

    message: DeliveredMessage
    content: AnEvent | Exception
    arrived: float = field(default_factory=time.monotonic)

    @property
    def user(self) -> str | None:
        """The broker's user who published it; None if the message does not name one."""
        return self.message.header.properties.user_id

    @property
    def headers(self) -> Mapping[str, Any]:
        """The headers that the publisher added."""
        return self.message.header.properties.headers or {}

    @property
    def event_id(self) -> str | None:
        """The id of the event; None if the message could not be read."""
        return None if isinstance(self.content, Exception) else self.content.id

    @property
    def event(self) -> AnEvent:
        """The event. Raises the error that was raised when the message was read."""
        if isinstance(self.content, Exception):
            raise self.content
        return self.content


class MessageBuffer(Generic[AnEvent]):
    """The received messages, in their order.

    A batch has at most `batch` messages. Batches begin every `interval` seconds on average at most,
    with the exceptions of `shared.throttle`. Events of `lazy_types` wait for at least half of
    `linger` and at most all of it, in seconds. All other messages end the wait of those before
    them.
    """

    def __init__(
        self,
        *,
        batch: int,
        interval: float = 0.0,
        lazy_types: frozenset[str] = frozenset(),
        linger: float = 0.0,
    ) -> None:
        self._batch = batch
        self._throttle = Throttle(interval)
        self._lazy_types, self._linger = lazy_types, linger
        self._messages: deque[ReceivedMessage[AnEvent]] = deque()
        self._urgent = 0
        self._arrival = asyncio.Event()

    def put(self, message: ReceivedMessage[AnEvent]) -> None:
        """Add a message."""
        self._messages.append(message)
        self._urgent += self._is_urgent(message)
        self._arrival.set()

    async def take(self) -> list[ReceivedMessage[AnEvent]]:
        """Wait for the next batch, and remove it. If it is cancelled, it has removed nothing."""
        while not self._messages:
            self._arrival.clear()
            await self._arrival.wait()
        if (pause := self._throttle.pause()) > 0:
            await asyncio.sleep(pause)
        while (pause := self._pause()) > 0:
            self._arrival.clear()
            # Not wait_for: in Python 3.11 it may lose a cancellation at the time of the event.
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._arrival.wait()
        self._throttle.count()
        batch = [self._messages.popleft() for _ in range(self._size())]
        self._urgent -= sum(map(self._is_urgent, batch))
        return batch

    def _is_urgent(self, message: ReceivedMessage[AnEvent]) -> bool:
        content = message.content
        return isinstance(content, Exception) or content.type not in self._lazy_types

    def _pause(self) -> float:
        """Return for how long the first message must still wait."""
        if self._urgent or len(self._messages) >= self._batch:
            return 0.0
        return self._messages[0].arrived + self._linger - time.monotonic()

    def _size(self) -> int:
        """Return how many messages the next batch has: all up to the last one that may not wait."""
        if len(self._messages) >= self._batch:
            return self._batch
        if not self._lazy_types:
            return len(self._messages)
        latest = time.monotonic() - self._linger / 2
        return max(
            place
            for place, message in enumerate(self._messages, start=1)
            if message.arrived <= latest or self._is_urgent(message)
        )
