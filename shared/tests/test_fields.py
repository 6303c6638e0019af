"""Days and instants as they are written, and what the document says of them and of bounds."""

import json
import re

import pytest
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from shared.fields import MAX_ID, Day, Id, Instant, Name, QueryId, Text, without_defaults
from shared.settings import ServiceSettings
from shared.tests.sample import create_app

DAY: TypeAdapter[object] = TypeAdapter(Day)
INSTANT: TypeAdapter[object] = TypeAdapter(Instant)
NAME: TypeAdapter[object] = TypeAdapter(Name)
TEXT: TypeAdapter[object] = TypeAdapter(Text)


WRITTEN_IDS = [TypeAdapter(Id), TypeAdapter(QueryId | None)]


@pytest.mark.parametrize("ids", WRITTEN_IDS, ids=["path", "query"])
@pytest.mark.parametrize("number", [1, 45, 10**18, MAX_ID])
def test_ids(ids: TypeAdapter[object], number: int) -> None:
    assert ids.validate_python(str(number)) == number


@pytest.mark.parametrize("ids", WRITTEN_IDS, ids=["path", "query"])
@pytest.mark.parametrize(
    "text",
    [
        *("045", " 45", "45 ", "45\n", "+45", "-45", "45.0", "1_0", "4e1", "0x2d", "", "my"),
        *("0", "00", str(MAX_ID + 1), "9" * 5000, "٤٥", "４５"),
    ],
)
def test_an_id_is_written_in_one_way(ids: TypeAdapter[object], text: str) -> None:
    with pytest.raises(ValidationError):
        ids.validate_python(text)


@pytest.mark.parametrize("text", ["2026-11-23", "1000-01-01", "8999-12-31"])
def test_days(text: str) -> None:
    assert str(DAY.validate_python(text)) == text


@pytest.mark.parametrize(
    "value",
    ["0", "0.5", 0, 1e9, "0001-01-01", "9999-12-31", "2026-02-30", "2026-11-23T00:00:00Z", ""],
)
def test_what_is_no_day(value: object) -> None:
    with pytest.raises(ValidationError):
        DAY.validate_python(value)


@pytest.mark.parametrize("text", ["2026-11-23T14:05:00Z", "2026-11-23T14:05:00.123456+14:00"])
def test_instants(text: str) -> None:
    assert INSTANT.validate_python(text) is not None


@pytest.mark.parametrize(
    "value",
    [
        "0",
        0,
        "2026-11-23",
        "2026-11-23T14:05:00",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-01:00",
        "2026-13-01T00:00:00Z",
    ],
)
def test_what_is_no_instant(value: object) -> None:
    with pytest.raises(ValidationError):
        INSTANT.validate_python(value)


SEEN = ["Żółw", "o'Neil", "山田", "👩‍👩‍👧 family", "می‌خواهم", "שלום"]
UNSEEN = [
    "",
    " ",
    "\u200b",
    "\u00ad\ufeff",
    "two\nlines",
    "nul\x00",
    "evil\u202egnp.exe",
    "\u2066a\u2069",
]


@pytest.mark.parametrize("text", SEEN)
def test_names_in_every_script(text: str) -> None:
    assert NAME.validate_python(f" {text} ") == text
    assert re.search(NAME.json_schema()["pattern"], text)


@pytest.mark.parametrize("text", UNSEEN)
def test_what_cannot_be_seen_as_it_is_written_is_no_name(text: str) -> None:
    with pytest.raises(ValidationError):
        NAME.validate_python(text)
    assert not re.search(NAME.json_schema()["pattern"], text)


def test_a_text_has_lines_and_does_not_turn_them_around() -> None:
    assert TEXT.validate_python("two\n\tlines") == "two\n\tlines"
    with pytest.raises(ValidationError):
        TEXT.validate_python("a\u202eb")


def test_a_partial_updates_schema_has_no_defaults() -> None:
    class Update(BaseModel):
        model_config = ConfigDict(json_schema_extra=without_defaults)

        name: str = ""
        is_active: bool = True

    properties = Update.model_json_schema()["properties"]
    assert [field for field in properties.values() if "default" in field] == []


@pytest.mark.anyio
async def test_the_document(settings: ServiceSettings) -> None:
    paths = create_app(settings).openapi()["paths"]
    shown = paths["/api/things/{thing_id}"]
    bounds = shown["get"]["parameters"][0]["schema"]
    assert (bounds["minimum"], bounds["maximum"]) == (1, MAX_ID)
    headers = {p["name"]: p["schema"] for p in shown["put"]["parameters"] if p["in"] == "header"}
    assert headers["if-match"]["type"] == "string"
    made = paths["/api/things"]["post"]
    assert "Idempotency-Key" in {p["name"] for p in made["parameters"]}
    assert "409" in made["responses"]
    assert "WWW-Authenticate" not in json.dumps(made["responses"]["409"])
    listed = paths["/api/things"]["get"]
    assert "Idempotency-Key" not in {p["name"] for p in listed["parameters"]}
