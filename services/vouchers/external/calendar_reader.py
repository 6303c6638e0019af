"""Reads the busy times of a calendar at an address that a user entered.

Only public addresses are contacted, whatever the address's name resolves to, also after a redirect.
"""

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from urllib.parse import urljoin

import httpx
from pydantic import TypeAdapter

from services.vouchers.external.calendar_addresses import check_calendar_address
from shared.limited_programs import LimitedProgram, ProgramFailed, isolated
from shared.public_files import (
    FETCH_FAILURES,
    FetchLimits,
    NotFetched,
    PublicFile,
    PublicFiles,
    Resolve,
)

FETCH_SECONDS = 15.0
READ_SECONDS = 10
"""Seconds of the processor that parsing may take; it may take twice as long by the clock.

A calendar of 9,000 events and 3.5 MB took 4 seconds.
"""
AT_ONCE = 4
MOST_REDIRECTS = 3
MAX_BYTES = 4 * 1024 * 1024

# By its path: this process does not need the libraries that the program imports.
PROGRAM = isolated(str(Path(__file__).with_name("calendar_program.py")))

_LIMITS = FetchLimits(AT_ONCE, MAX_BYTES, 20_000, FETCH_SECONDS)
_ACCEPTED = {"Accept": "text/calendar", "User-Agent": "Carnet"}
_OUTPUT_BYTES = 1024 * 1024
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_TIMES: TypeAdapter[list[tuple[int, int]]] = TypeAdapter(list[tuple[int, int]])


class CalendarUnreadable(Exception):
    """The calendar cannot be read; the text is a sentence for the staff."""


class CalendarReader:
    """Reads calendars, a few at once. The parameters replace the outside world in tests."""

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport | None = None,
        resolve: Resolve | None = None,
        program: Sequence[str] = PROGRAM,
        seconds: int = READ_SECONDS,
    ) -> None:
        self._files = PublicFiles(_LIMITS, transport, resolve)
        self._program = LimitedProgram(
            program, seconds=2.0 * seconds, output_bytes=_OUTPUT_BYTES, at_once=1
        )
        self._seconds = seconds

    async def busy_times(
        self, address: str, zone: str, stretch: tuple[datetime, datetime]
    ) -> list[tuple[int, int]]:
        """Return the busy times of a calendar in a stretch of time, in seconds since 1970.

        `zone` is that of times without a zone. Raises CalendarUnreadable.
        """
        calendar = await self._fetch(address)
        first, last = (str(int(moment.timestamp())) for moment in stretch)
        try:
            output = await self._program.run(calendar, zone, first, last, str(self._seconds))
            return _TIMES.validate_python(json.loads(output), strict=False)
        except (ProgramFailed, OSError, ValueError) as error:
            raise CalendarUnreadable(
                "The address leads to no calendar that can be read. Check it."
            ) from error

    async def _fetch(self, address: str) -> bytes:
        for _ in range(MOST_REDIRECTS + 1):
            file = await self._request(address)
            if file.status == 200:
                return file.body
            location = file.headers.get("location")
            if file.status not in _REDIRECTS or location is None:
                raise CalendarUnreadable(
                    f"The calendar's server answered with status {file.status}."
                    " Check the address, or enter a new one."
                )
            address = urljoin(address, location)
        raise CalendarUnreadable("The calendar's server redirects too often. Check the address.")

    async def _request(self, address: str) -> PublicFile:
        try:
            return await self._files.fetch(check_calendar_address(address), _ACCEPTED)
        except (TimeoutError, httpx.TimeoutException) as error:
            raise CalendarUnreadable("The calendar's server did not answer in time.") from error
        except NotFetched as error:
            raise CalendarUnreadable(
                "The calendar's address is not on the public internet, or the calendar is larger"
                f" than {MAX_BYTES // 1024**2} MiB."
            ) from error
        except FETCH_FAILURES as error:
            raise CalendarUnreadable(
                "The calendar's server cannot be reached. Check the address."
            ) from error

    async def aclose(self) -> None:
        """Close every connection."""
        await self._files.aclose()
