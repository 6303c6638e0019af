"""Calendars from elsewhere: which times are busy, and what an unknown server cannot do."""

import sys
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from services.vouchers.external.calendar_addresses import check_calendar_address
from services.vouchers.external.calendar_reader import MAX_BYTES, CalendarUnreadable
from services.vouchers.external.tests.calendars import (
    ADDRESS,
    PUBLIC,
    answering,
    calendar,
    event,
    reader_of,
)
from shared.errors import AppError

pytestmark = pytest.mark.anyio

STRETCH = (datetime(2027, 3, 1, tzinfo=UTC), datetime(2027, 5, 1, tzinfo=UTC))


def instant(month: int, day: int, hour: int = 0, minute: int = 0) -> int:
    """Return a time of 2027 in UTC as an instant."""
    return int(datetime(2027, month, day, hour, minute, tzinfo=UTC).timestamp())


async def read(body: bytes, **options: Any) -> list[tuple[int, int]]:
    """Return the busy times of a calendar, sorted."""
    async with reader_of(answering(body), **options) as reader:
        return sorted(await reader.busy_times(ADDRESS, "Europe/Warsaw", STRETCH))


EVENTS: dict[str, tuple[tuple[str, ...], list[tuple[int, int]]]] = {
    "in UTC": (
        ("DTSTART:20270310T090000Z", "DTEND:20270310T100000Z"),
        [(instant(3, 10, 9), instant(3, 10, 10))],
    ),
    "of another zone": (
        ("DTSTART;TZID=America/New_York:20270310T090000", "DURATION:PT30M"),
        [(instant(3, 10, 14), instant(3, 10, 14, 30))],
    ),
    "without a zone": (
        ("DTSTART:20270310T090000", "DTEND:20270310T100000"),
        [(instant(3, 10, 8), instant(3, 10, 9))],
    ),
    "of a day": (
        ("DTSTART;VALUE=DATE:20270310", "DTEND;VALUE=DATE:20270311"),
        [(instant(3, 9, 23), instant(3, 10, 23))],
    ),
    "repeated over a change of the clock": (
        (
            "DTSTART;TZID=Europe/Warsaw:20270321T100000",
            "DTEND;TZID=Europe/Warsaw:20270321T110000",
            "RRULE:FREQ=WEEKLY;COUNT=2",
        ),
        [(instant(3, 21, 9), instant(3, 21, 10)), (instant(3, 28, 8), instant(3, 28, 9))],
    ),
    "with an exception": (
        (
            "DTSTART:20270310T090000Z",
            "DTEND:20270310T100000Z",
            "RRULE:FREQ=DAILY;COUNT=2",
            "EXDATE:20270310T090000Z",
        ),
        [(instant(3, 11, 9), instant(3, 11, 10))],
    ),
    "before the stretch": (("DTSTART:20260310T090000Z", "DTEND:20260310T100000Z"), []),
    "that is free": (
        ("DTSTART:20270310T090000Z", "DTEND:20270310T100000Z", "TRANSP:TRANSPARENT"),
        [],
    ),
    "that is free in Outlook": (
        (
            "DTSTART:20270310T090000Z",
            "DTEND:20270310T100000Z",
            "X-MICROSOFT-CDO-BUSYSTATUS:FREE",
        ),
        [],
    ),
    "that is cancelled": (
        ("DTSTART:20270310T090000Z", "DTEND:20270310T100000Z", "STATUS:CANCELLED"),
        [],
    ),
    "without an end": (("DTSTART:20270310T090000Z",), []),
}


@pytest.mark.parametrize("case", EVENTS)
async def test_an_event(case: str) -> None:
    lines, expected = EVENTS[case]
    assert await read(calendar(event("one", *lines))) == expected


async def test_events_of_our_own_feeds_do_not_count() -> None:
    lines = ("DTSTART:20270310T090000Z", "DTEND:20270310T100000Z")
    uids = ("session-4@carnet", "reservation-501@carnet")
    assert await read(calendar(*(event(uid, *lines) for uid in uids))) == []


async def test_an_event_that_makes_no_sense_is_left_out() -> None:
    wrong = event("wrong", "DTSTART:20270310T090000Z", "RRULE:FREQ=NONSENSE")
    right = event("right", "DTSTART:20270311T090000Z", "DTEND:20270311T100000Z")
    assert (instant(3, 11, 9), instant(3, 11, 10)) in await read(calendar(wrong, right))


@pytest.mark.parametrize("body", [b"", b"<html>", b"\x00\xff" * 1000, b"BEGIN:VCALENDAR\r\n"])
async def test_what_is_no_calendar_is_refused(body: bytes) -> None:
    with pytest.raises(CalendarUnreadable, match="no calendar"):
        await read(body)


async def test_a_rule_without_end_is_given_up() -> None:
    lines = ("DTSTART:20270301T000000Z", "DURATION:PT1S", "RRULE:FREQ=SECONDLY")
    with pytest.raises(CalendarUnreadable, match="no calendar"):
        await read(calendar(event("endless", *lines)), seconds=2)


async def test_a_parser_that_hangs_is_ended() -> None:
    program = (sys.executable, "-I", "-c", "while True: pass")
    with pytest.raises(CalendarUnreadable):
        await read(calendar(), program=program, seconds=1)


ANSWERS: dict[str, tuple[int, dict[str, str], int, str]] = {
    "not there": (404, {}, 0, "status 404"),
    "too large": (200, {}, MAX_BYTES + 1, "larger than 4 MiB"),
    "encoded": (200, {"content-encoding": "unknown"}, 0, "public internet"),
    "redirected to http": (
        302,
        {"location": "http://calendar.example.org/a"},
        0,
        "cannot be reached",
    ),
    "redirected inside": (302, {"location": "https://127.0.0.1/a"}, 0, "cannot be reached"),
    "redirected in a circle": (302, {"location": ADDRESS}, 0, "too often"),
    "redirected to nowhere": (302, {}, 0, "status 302"),
}


@pytest.mark.parametrize("case", ANSWERS)
async def test_an_answer_that_is_refused(case: str) -> None:
    status, headers, size, words = ANSWERS[case]
    async with reader_of(answering(b"x" * size, status, **headers)) as reader:
        with pytest.raises(CalendarUnreadable, match=words):
            await reader.busy_times(ADDRESS, "UTC", STRETCH)


async def test_a_redirect_is_followed_to_a_public_address() -> None:
    requests: list[httpx.Request] = []
    body = calendar(event("one", "DTSTART:20270310T090000Z", "DTEND:20270310T100000Z"))

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        if len(requests) == 1:
            return httpx.Response(301, headers={"location": "https://files.example.net/b.ics"})
        return httpx.Response(200, content=body)

    async with reader_of(answer) as reader:
        assert len(await reader.busy_times(ADDRESS, "UTC", STRETCH)) == 1
    assert [request.headers["host"] for request in requests] == [
        "calendar.example.org",
        "files.example.net",
    ]
    assert {request.url.host for request in requests} == {PUBLIC}


@pytest.mark.parametrize("inside", ["127.0.0.1", "10.0.0.7", "169.254.169.254", "::1", "fd00::1"])
async def test_nothing_inside_is_requested(inside: str) -> None:
    def never(_request: httpx.Request) -> httpx.Response:
        raise AppError("requested")

    async with reader_of(never, inside) as reader:
        with pytest.raises(CalendarUnreadable, match="not on the public internet"):
            await reader.busy_times(ADDRESS, "UTC", STRETCH)


@pytest.mark.parametrize(
    "address",
    [
        "http://calendar.example.org/a.ics",
        "ftp://calendar.example.org/a.ics",
        "https://calendar.example.org:8443/a.ics",
        "https://user:secret@calendar.example.org/a.ics",
        "https://localhost/a.ics",
        "https://vouchers/a.ics",
        "https://127.0.0.1/a.ics",
        "webcal://10.0.0.7/a.ics",
        "calendar.example.org/a.ics",
        "",
    ],
)
def test_an_address_that_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match=r"must|valid"):
        check_calendar_address(address)


def test_webcal_stands_for_https() -> None:
    url = check_calendar_address("webcal://calendar.example.org/a.ics")
    assert (url.scheme, url.host, url.port) == ("https", "calendar.example.org", 443)
