"""Days and instants as they are written, and what the document says of them and of bounds."""

import json
import re
from decimal import Decimal

import pytest
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from shared.fields import (
    MAX_ID,
    BodyId,
    Day,
    Email,
    EventTime,
    Id,
    Instant,
    KeyId,
    KnownTimeZone,
    Lines,
    Name,
    PathUuid,
    Phone,
    QueryFlag,
    QueryId,
    RequestBody,
    ServiceData,
    Text,
    TimeZone,
    without_defaults,
)
from shared.money import Amount, Money
from shared.settings import ServiceSettings
from shared.tests.sample import create_app

DAY: TypeAdapter[object] = TypeAdapter(Day)
INSTANT: TypeAdapter[object] = TypeAdapter(Instant)
NAME: TypeAdapter[object] = TypeAdapter(Name)
TEXT: TypeAdapter[object] = TypeAdapter(Text)
LINES: TypeAdapter[object] = TypeAdapter(Lines)
PHONE: TypeAdapter[object] = TypeAdapter(Phone)
ZONE: TypeAdapter[object] = TypeAdapter(TimeZone)
EMAIL: TypeAdapter[object] = TypeAdapter(Email)


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


class Sent(RequestBody):
    id: BodyId = 1
    number: int = 1
    flag: bool = True
    price: Money = Decimal(1)


class Told(ServiceData):
    id: int
    amount: Amount | None = None
    at: EventTime | None = None
    by_id: dict[KeyId, float] = Field(default_factory=dict)


NUMBERS_LOOSELY = [True, "1", "1_0", "１０", " 04 ", "+1", Decimal("1.0"), 1.0, [1], "1e1"]


@pytest.mark.parametrize("value", NUMBERS_LOOSELY, ids=repr)
@pytest.mark.parametrize("field", ["id", "number"])
def test_a_number_in_a_body_is_a_json_number(field: str, value: object) -> None:
    with pytest.raises(ValidationError):
        Sent.model_validate({field: value})


@pytest.mark.parametrize("value", [1, 0, "true", "yes", "on", None, Decimal(1)], ids=repr)
def test_a_truth_value_in_a_body_is_a_json_one(value: object) -> None:
    with pytest.raises(ValidationError):
        Sent.model_validate({"flag": value})


@pytest.mark.parametrize(
    ("value", "amount"),
    [
        (400, "400"),
        (Decimal("399.9"), "399.9"),
        (Decimal("1.0"), "1.0"),
        (Decimal("1E+2"), "1E+2"),
        ("0", "0"),
        ("399.99", "399.99"),
        ("007.5", "7.5"),
        ("9999999999.99", "9999999999.99"),
    ],
    ids=repr,
)
def test_an_amount_is_a_number_or_the_text_of_one(value: object, amount: str) -> None:
    assert str(Sent.model_validate({"price": value}).price) == amount
    assert Told.model_validate({"id": 1, "amount": value}).amount == Decimal(amount)


@pytest.mark.parametrize(
    "value",
    [
        *(True, False, None, [], {}),
        *("", " 1", "1 ", "1\n", "1_0", "１０", "٣", "+1", "-1", "1.", ".5", "1.005", "1,5", "1e2"),
        *("NaN", "Infinity", "9" * 14, "0x1"),
    ],
    ids=repr,
)
def test_what_is_no_amount(value: object) -> None:
    with pytest.raises(ValidationError):
        Sent.model_validate({"price": value})


def test_the_document_describes_how_an_amount_may_be_written() -> None:
    sent = Sent.model_json_schema(mode="validation")["properties"]["price"]
    number, text = sent["anyOf"]
    assert (number["type"], text["type"]) == ("number", "string")
    assert re.search(text["pattern"], "399.99")
    assert not re.search(text["pattern"], "1_0")
    assert Sent.model_json_schema(mode="serialization")["properties"]["price"]["type"] == "number"


@pytest.mark.parametrize(
    "content",
    [
        '{"id": true}',
        '{"id": "1"}',
        '{"id": 1, "amount": true}',
        '{"id": 1, "amount": "1_0"}',
        '{"id": 1, "at": 5}',
        '{"id": 1, "at": "5"}',
        '{"id": 1, "at": "2026-11-23"}',
        '{"id": 1, "by_id": {"1_0": 1}}',
        '{"id": 1, "by_id": {" 1": 1}}',
        '{"id": 1, "by_id": {"1": "2"}}',
    ],
)
def test_another_service_is_not_read_loosely(content: str) -> None:
    with pytest.raises(ValidationError):
        Told.model_validate_json(content)
    with pytest.raises(ValidationError):
        Told.model_validate(json.loads(content))


def test_another_service_may_send_more_fields() -> None:
    content = (
        '{"id": 1, "amount": 399.99, "at": "2026-11-23T14:05:00", "by_id": {"7": 2}, "more": 1}'
    )
    told = Told.model_validate_json(content)
    assert (told.amount, told.by_id) == (Decimal("399.99"), {7: 2.0})


def test_the_values_of_a_change_are_checked_one_by_one() -> None:
    assert Told.changes_in({"amount": "1.50", "unknown": 1}) == {"amount": Decimal("1.50")}
    assert Told.changes_in({}) == {}
    with pytest.raises(ValidationError):
        Told.changes_in({"id": True})


FLAG: TypeAdapter[object] = TypeAdapter(QueryFlag | None)


@pytest.mark.parametrize(("text", "flag"), [("true", True), ("false", False)])
def test_a_truth_value_in_a_query(text: str, flag: bool) -> None:
    assert FLAG.validate_python(text) is flag


@pytest.mark.parametrize("text", ["yes", "on", "1", "0", "t", "True", "FALSE", " true", ""])
def test_what_is_no_truth_value_in_a_query(text: str) -> None:
    with pytest.raises(ValidationError):
        FLAG.validate_python(text)


IDENTIFIER: TypeAdapter[object] = TypeAdapter(PathUuid)


@pytest.mark.parametrize(
    ("template", "good"),
    [
        ("{}", True),
        ("urn:uuid:{}", False),
        ("{{{}}}", False),
        (" {}", False),
        ("{}\n", False),
    ],
)
def test_a_uuid_is_written_in_one_way(template: str, good: bool) -> None:
    text = template.format("123e4567-e89b-12d3-a456-426614174000")
    if good:
        assert str(IDENTIFIER.validate_python(text)) == text
        return
    with pytest.raises(ValidationError):
        IDENTIFIER.validate_python(text)
    with pytest.raises(ValidationError):
        IDENTIFIER.validate_python("123e4567e89b12d3a456426614174000")


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
    "\u3164",
    "\u115f\u1160 \uffa0",
    "\u034f\ufe0f",
    "\u2800\u2800",
    "\u180b\u180e",
    "\u17b4",
    "\U000e0041\U000e007f",
    "\U0001d173",
    "\u3000\u2003",
    "two\u2028lines",
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


@pytest.mark.parametrize("text", ["\u3164", "\u2800 \n\u200b"])
def test_a_text_that_cannot_be_seen(text: str) -> None:
    with pytest.raises(ValidationError, match="visible character, or be empty"):
        TEXT.validate_python(text)
    assert not re.search(TEXT.json_schema()["pattern"], text)


@pytest.mark.parametrize("text", ["", " \n ", "two\n\nlines", "👩‍👩‍👧"])
def test_texts(text: str) -> None:
    assert TEXT.validate_python(text) == text.strip()
    assert re.search(TEXT.json_schema()["pattern"], text)


@pytest.mark.parametrize("line_break", ["\n", "\r\n", "\r", "\u2028", " \n\n  "])
def test_an_address_has_lines(line_break: str) -> None:
    assert LINES.validate_python(f"Main Street 1{line_break}00-001 Warszawa ") == (
        "Main Street 1\n00-001 Warszawa"
    )


@pytest.mark.parametrize("text", ["", "\n", "a\n\u3164", "a\tb", "a\x0bb", "\n".join("a" * 9)])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValidationError):
        LINES.validate_python(text)


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("+48 600 100 200", None),
        ("112", None),
        ("(555) 123-4567", None),
        ("+1 (555) 123-4567", None),
        ("+(48) 22 123 45 67", None),
        ("555-123-4567 x12", None),
        ("555.123.4567 ext. 5", None),
        ("555 123 4567, ext 5", None),
        ("555 123 4567 EXT.5", None),
        ("22 123 45 67 wew. 12", None),
        ("22 123 45 67 extension 12", None),
        ("+48221234567;ext=12", None),
        ("555 123 4567 #12", None),
        ("+48\u00a0600\u202f100\u2009200", "+48 600 100 200"),
        ("555\u2011123\u20134567", "555-123-4567"),
    ],
)
def test_telephone_numbers_as_people_write_them(written: str, kept: str | None) -> None:
    assert PHONE.validate_python(f" {written} ") == (kept or written)
    assert re.search(PHONE.json_schema()["pattern"], written)


@pytest.mark.parametrize(
    "text", ["", "12", "()", "+", "call me", "x12", "555 123 4567 x", "555\n1234567", "1" * 40]
)
def test_what_is_no_telephone_number(text: str) -> None:
    with pytest.raises(ValidationError):
        PHONE.validate_python(text)


@pytest.mark.parametrize("name", ["UTC", "Europe/Warsaw", "Asia/Calcutta", "Etc/GMT+12", "Poland"])
def test_time_zones(name: str) -> None:
    assert ZONE.validate_python(name) == name


@pytest.mark.parametrize(
    "name",
    [
        *("localtime", "Factory", "posixrules", "posix/Europe/Warsaw", "right/UTC", "tzdata.zi"),
        *("europe/warsaw", "EUROPE/WARSAW", "utc", "Europe/Warsaw ", "Europe", "../Europe/Warsaw"),
        *("CET-1CEST", "+01:00", "", "zone.tab", "Europe/Atlantis"),
    ],
)
def test_what_is_no_time_zone_on_every_machine(name: str) -> None:
    with pytest.raises(ValidationError):
        ZONE.validate_python(name)


def test_a_zone_that_was_accepted_before_is_read_where_it_is_known() -> None:
    known: TypeAdapter[object] = TypeAdapter(KnownTimeZone)
    assert known.validate_python("Factory") == "Factory"
    for name in ("Europe/Atlantis", "../Europe/Warsaw", ""):
        with pytest.raises(ValidationError):
            known.validate_python(name)


@pytest.mark.parametrize("char", ["\u3164", "\u200b", "\ufe0f", "\u00ad"])
def test_an_address_shows_all_its_characters(char: str) -> None:
    with pytest.raises(ValidationError):
        EMAIL.validate_python(f"an{char}na@example.org")


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
