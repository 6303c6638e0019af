"""Calendars of the tests."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx

from services.vouchers.external.calendar_reader import CalendarReader

Answer = Callable[[httpx.Request], Any]
"""Returns the response to a request, or awaits it."""

PUBLIC = "93.184.215.14"
ADDRESS = "https://calendar.example.org/private.ics"


def event(uid: str, *lines: str) -> str:
    """Return an event with further lines."""
    return "\r\n".join(("BEGIN:VEVENT", f"UID:{uid}", *lines, "END:VEVENT"))


def calendar(*events: str) -> bytes:
    """Return a calendar."""
    head = ("BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//test//EN")
    return "\r\n".join((*head, *events, "END:VCALENDAR", "")).encode()


def answering(body: bytes, status: int = 200, **headers: str) -> Answer:
    """Return a server that always gives one answer."""
    return lambda _request: httpx.Response(status, content=body, headers=headers)


@asynccontextmanager
async def reader_of(
    answer: Answer, *addresses: str, **options: Any
) -> AsyncIterator[CalendarReader]:
    """Yield a reader whose network is a function, and whose names resolve to some addresses."""

    async def resolve(_host: str, _port: int) -> list[str]:
        return list(addresses or (PUBLIC,))

    reader = CalendarReader(httpx.MockTransport(answer), resolve, **options)
    try:
        yield reader
    finally:
        await reader.aclose()
