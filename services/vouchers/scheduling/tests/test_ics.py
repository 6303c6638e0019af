"""Calendar feeds, read again by the rules of RFC 5545."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.vouchers.scheduling.ics import CalendarEvent, escape, fold, write_feed

NOON = "20261025T110000Z"
EVENT = CalendarEvent(
    uid="reservation-501@carnet.example",
    sequence=3,
    changed_at="20260925T100000Z",
    starts_at=NOON,
    ends_at="20261025T120000Z",
    summary="Yoga",
)


def unfolded(feed: bytes) -> list[str]:
    text = feed.decode()
    assert text.endswith("\r\n")
    return text.replace("\r\n ", "").split("\r\n")[:-1]


def unescaped(value: str) -> str:
    return re.sub(r"\\(.)", lambda match: "\n" if match[1] in "nN" else match[1], value)


def test_a_feed_has_the_lines_that_calendars_need() -> None:
    assert unfolded(write_feed("My sessions", [EVENT])) == [
        "BEGIN:VCALENDAR",
        "VERSION:2.0",
        "PRODID:-//Carnet//Calendar feed//EN",
        "CALSCALE:GREGORIAN",
        "NAME:My sessions",
        "X-WR-CALNAME:My sessions",
        "REFRESH-INTERVAL;VALUE=DURATION:PT1H",
        "X-PUBLISHED-TTL:PT1H",
        "BEGIN:VEVENT",
        "UID:reservation-501@carnet.example",
        "SEQUENCE:3",
        "DTSTAMP:20260925T100000Z",
        "LAST-MODIFIED:20260925T100000Z",
        "DTSTART:20261025T110000Z",
        "DTEND:20261025T120000Z",
        "STATUS:CONFIRMED",
        "TRANSP:OPAQUE",
        "SUMMARY:Yoga",
        "END:VEVENT",
        "END:VCALENDAR",
    ]


@pytest.mark.parametrize(
    ("is_tentative", "is_cancelled", "lines"),
    [
        (True, False, {"STATUS:TENTATIVE", "TRANSP:OPAQUE"}),
        (False, True, {"STATUS:CANCELLED", "TRANSP:TRANSPARENT"}),
        (True, True, {"STATUS:CANCELLED", "TRANSP:TRANSPARENT"}),
    ],
)
def test_a_held_event_is_tentative_and_a_cancelled_one_stays(
    is_tentative: bool, is_cancelled: bool, lines: set[str]
) -> None:
    event = CalendarEvent(
        "u", 1, NOON, NOON, NOON, "s", is_tentative=is_tentative, is_cancelled=is_cancelled
    )
    assert lines <= set(unfolded(write_feed("x", [event])))


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)


@given(texts, texts)
def test_any_text_is_read_as_it_was_written(summary: str, location: str) -> None:
    event = CalendarEvent("u", 1, NOON, NOON, NOON, summary, location=location)
    feed = write_feed(location, [event])
    lines = unfolded(feed)
    assert all(len(line) <= 75 for line in feed.split(b"\r\n"))
    assert not re.search(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", feed)
    assert lines.count("BEGIN:VEVENT") == lines.count("END:VEVENT") == 1
    written = re.sub("\r\n|[\r\x85\u2028\u2029]", "\n", summary)
    written = re.sub("[\x00-\x08\x0b-\x1f\x7f-\x9f]", "", written)
    prefix = "SUMMARY:"
    value = next(line.removeprefix(prefix) for line in lines if line.startswith(prefix))
    assert unescaped(value) == written


def test_separators_and_line_breaks_are_escaped() -> None:
    assert escape("a;b,c\\d\r\ne\x07") == "a\\;b\\,c\\\\d\\ne"


def test_a_text_cannot_add_a_line() -> None:
    event = CalendarEvent("u", 1, NOON, NOON, NOON, "x\r\nEND:VEVENT\u2028DTSTART:1")
    assert "SUMMARY:x\\nEND:VEVENT\\nDTSTART:1" in unfolded(write_feed("x", [event]))


@pytest.mark.parametrize("char", ["a", "ż", "語", "🧘"])
def test_lines_are_folded_between_characters(char: str) -> None:
    line = f"SUMMARY:{char * 100}"
    parts = fold(line).split("\r\n")
    assert all(len(part.encode()) <= 75 for part in parts)
    assert parts[0] + "".join(part.removeprefix(" ") for part in parts[1:]) == line
    assert fold("x" * 75) == "x" * 75
