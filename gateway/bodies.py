"""A request's body on its way through: counted, timed, never held as a whole."""

import asyncio
from collections.abc import AsyncIterator, Callable

from starlette.types import Receive

from gateway.errors import BodyTooLarge, BodyTooSlow, ClientDisconnected
from gateway.headers import RequestHead
from shared.errors import AppError


class RequestBody:
    """The body as an async iterable of its pieces, for the client library to send as they come.

    Why it broke off is kept in `failure`, because the client library hides it behind an error
    of its own.
    """

    def __init__(self, receive: Receive, head: RequestHead, *, limit: int, timeout: float) -> None:
        self._receive = receive
        self._limit = limit
        self._timeout = timeout  # seconds between two pieces
        self._seen = 0
        self.complete = not head.has_body
        self.failure: AppError | ClientDisconnected | None = None
        self._first = b""
        self._completed: Callable[[], None] | None = None
        if (head.content_length or 0) > limit:
            self.failure = BodyTooLarge()

    async def whole_or_stream(self) -> "bytes | RequestBody | None":
        """The whole body when its first piece is all of it, else this stream of the pieces.

        Raises BodyTooLarge (413), BodyTooSlow (408) or ClientDisconnected.
        """
        if self.failure is not None:
            raise self.failure
        if self.complete:
            return None
        self._first, last = await self._next()
        return self._first if last else self

    def when_complete(self, call: Callable[[], None]) -> None:
        """Call back when the last piece has come."""
        self._completed = call

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._pieces()

    async def _pieces(self) -> AsyncIterator[bytes]:
        yield self._first
        self._first = b""
        last = False
        while not last:
            piece, last = await self._next()
            if piece:
                yield piece

    async def _next(self) -> tuple[bytes, bool]:
        """One more piece, and whether it is the last."""
        try:
            async with asyncio.timeout(self._timeout):
                message = await self._receive()
        except TimeoutError:
            self.failure = BodyTooSlow()
            raise self.failure from None
        if message["type"] == "http.disconnect":
            self.failure = ClientDisconnected()
            raise self.failure
        piece: bytes = message.get("body", b"")
        self._seen += len(piece)
        self.complete = not message.get("more_body", False)
        if self.complete and self._completed is not None:
            self._completed()
        if self._seen > self._limit:
            self.failure = BodyTooLarge()
            raise self.failure
        return piece, self.complete
