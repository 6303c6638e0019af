"""The checks find broken promises, and readers that expect what no publisher promises."""

from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

import pytest
from pydantic import BaseModel
from typer.testing import CliRunner

from deploy.checks.event_shapes import files
from deploy.checks.event_shapes.command import app
from deploy.checks.event_shapes.consumers import Reader, matches
from deploy.checks.event_shapes.contracts import breaking_changes, faults_of
from deploy.checks.event_shapes.json_types import MONEY, schema_of
from deploy.local.system import CHECKOUT
from shared.shapes import EventReading, Schema

KIND = "shop.order.placed.v1"


def shape(properties: dict[str, Schema], *required: str) -> dict[str, Schema]:
    """Return the one published shape of a small shop."""
    values = {"type": "object", "properties": properties, "required": list(required)}
    data = {"type": "object", "properties": {"new_values": values}, "required": ["new_values"]}
    return {KIND: {"type": "object", "properties": {"data": data}, "required": ["data"]}}


TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "integer"}
BEFORE = shape({"name": TEXT, "amount": MONEY, "state": {"enum": ["new", "paid"]}}, "name")


@pytest.mark.parametrize(
    ("after", "told"),
    [
        (shape({"name": TEXT, "amount": MONEY}, "name"), "state was removed"),
        ({}, "is not published any more"),
        (
            shape({"name": TEXT, "amount": MONEY, "state": {"enum": ["new", "paid"]}}),
            "name is not required any more",
        ),
        (
            shape({"name": NUMBER, "amount": MONEY, "state": {"enum": ["new", "paid"]}}, "name"),
            "name may have new values",
        ),
        (
            shape({"name": TEXT, "amount": TEXT, "state": {"enum": ["new", "paid"]}}, "name"),
            "amount may have new values",
        ),
        (
            shape({"name": TEXT, "amount": MONEY, "state": {"enum": ["new", "void"]}}, "name"),
            "state may have new values",
        ),
        (
            shape({"name": TEXT, "amount": MONEY, "state": {"enum": ["new"]}}, "name"),
            "state refuses values of older messages",
        ),
        (
            shape(
                {
                    "name": {"type": ["string", "null"]},
                    "amount": MONEY,
                    "state": {"enum": ["new", "paid"]},
                },
                "name",
            ),
            "name may have new values",
        ),
    ],
)
def test_a_withdrawn_promise_is_reported(after: dict[str, Schema], told: str) -> None:
    [broken] = breaking_changes(BEFORE, after)
    assert told in broken


def test_additions_break_no_reader() -> None:
    more = shape(
        {
            "name": TEXT,
            "amount": MONEY,
            "state": {"enum": ["new", "paid"]},
            "note": TEXT,
        },
        "name",
        "amount",
    )
    assert breaking_changes(BEFORE, more | {"shop.order.placed.v2": {}}) == []


class Line(BaseModel):
    """Part of an order."""

    quantity: int


class Order(BaseModel):
    """What a reader of the shop's news reads."""

    name: str
    amount: Decimal | None = None
    lines: list[Line] = []


LINES: Schema = {
    "type": "array",
    "items": {"type": "object", "properties": {"quantity": NUMBER}, "required": ["quantity"]},
}
PROMISED: dict[str, Schema] = {"name": TEXT, "amount": MONEY, "lines": LINES}


def reader(
    bindings: tuple[str, ...] = ("shop.order.*.v1",),
    handled: frozenset[str] = frozenset({KIND}),
    **options: Any,
) -> Reader:
    """Return a reader of the shop's news."""
    return Reader("news", bindings, handled, {KIND: EventReading(Order, **options)})


def test_a_reader_whose_needs_are_promised_has_no_faults() -> None:
    assert faults_of(reader(), shape(PROMISED, "name")) == []
    assert faults_of(reader(partial=True), shape(PROMISED)) == []
    known = frozenset({"name"})
    assert faults_of(reader(from_envelope=known), shape(PROMISED)) == []


@pytest.mark.parametrize(
    ("shapes", "told"),
    [
        (shape(PROMISED), "name is not promised by"),
        (shape(PROMISED | {"name": NUMBER}, "name"), "name of shop.order.placed.v1 may have"),
        (shape(PROMISED | {"amount": {"type": "boolean"}}, "name"), "amount of shop"),
        (shape({"name": TEXT, "lines": LINES}, "name"), "amount is in no event"),
        (shape(PROMISED | {"lines": {"type": "array", "items": TEXT}}, "name"), "lines of shop"),
    ],
)
def test_a_need_that_no_publisher_promises_is_reported(
    shapes: dict[str, Schema], told: str
) -> None:
    [fault] = faults_of(reader(), shapes)
    assert told in fault


@pytest.mark.parametrize(
    ("faulty", "told"),
    [
        (reader(("shop.order.*.v1", "shop.basket.*.v1")), "no service publishes shop.basket.*.v1"),
        (reader(handled=frozenset({KIND, "shop.order.lost.v1"})), "handled, but never received"),
        (Reader("news", ("#",), frozenset(), {}), "is received, but has no handler"),
        (Reader("news", ("#",), frozenset({KIND}), {}), "READINGS does not describe"),
    ],
)
def test_a_wrong_binding_is_reported(faulty: Reader, told: str) -> None:
    faults = faults_of(faulty, shape(PROMISED, "name"))
    assert any(told in fault for fault in faults)


def test_bindings_match_as_in_the_broker() -> None:
    assert matches("#", KIND)
    assert matches("shop.*.placed.v1", KIND)
    assert matches("shop.#", KIND)
    assert matches("shop.order.placed.v1.#", KIND)
    assert not matches("shop.*.v1", KIND)
    assert not matches("shop.order.placed.v2", KIND)
    assert not matches("shopXorder.placed.v1", KIND)


class Colour(StrEnum):
    """A small choice."""

    RED = "red"
    BLUE = "blue"


class Paint(TypedDict):
    """A small object."""

    colour: Colour
    litres: NotRequired[Decimal | None]


def test_types_become_json_schemas() -> None:
    assert schema_of(list[int]) == {"type": "array", "items": {"type": "integer"}}
    assert schema_of(str | None) == {"type": ["string", "null"]}
    assert schema_of(Colour | None)["anyOf"][1] == {"type": "null"}
    assert schema_of(int | str) == {"anyOf": [{"type": "integer"}, {"type": "string"}]}
    assert schema_of(Literal["a"]) == {"enum": ["a"]}
    assert schema_of(Paint) == {
        "type": "object",
        "properties": {
            "colour": {"type": "string", "enum": ["red", "blue"]},
            "litres": {"type": ["string", "null"], "pattern": MONEY["pattern"]},
        },
        "required": ["colour"],
    }
    with pytest.raises(TypeError, match="cannot contain"):
        schema_of(bytes)


def test_the_command_compares_with_a_release(tmp_path: Path) -> None:
    files.write(tmp_path)
    same = CliRunner().invoke(app, ["compare", str(tmp_path)])
    assert (same.exit_code, "understand" in same.output) == (0, True)
    shapes = files.folder_of(tmp_path, "vouchers")
    first = next(iter(sorted(shapes.iterdir())))
    first.rename(shapes / "vouchers.voucher.lost.v1.json")
    other = CliRunner().invoke(app, ["compare", str(tmp_path)])
    assert other.exit_code == 1
    assert "vouchers.voucher.lost.v1 is not published any more" in other.output


def test_the_command_reports_that_the_files_are_up_to_date() -> None:
    assert CliRunner().invoke(app, ["check"]).exit_code == 0
    assert files.drift(CHECKOUT) == []
