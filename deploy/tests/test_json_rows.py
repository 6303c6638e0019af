"""PostgreSQL writes the same JSON as pydantic, for every response model of the five services."""

import json
import os
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from random import Random
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin
from uuid import UUID

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts
from pydantic import BaseModel, NaiveDatetime, SecretStr, TypeAdapter
from sqlalchemy import ARRAY, Boolean, Date, DateTime, Text, cast, literal, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.routes import Service
from shared.db import TYPES, make_engine
from shared.json_rows import json_list, json_object
from shared.money import without_marks
from shared.reads import JsonQuery, Reader
from shared.settings import asyncpg_url
from shared.tenancy import EVERYTHING

pytestmark = pytest.mark.anyio

ROWS = 12
TEXTS = (
    "",
    "Clara",
    "quotes \" and \\ and / and '",
    "\b\f\n\r\t \x01\x1f \x7f \x80 \u2028\u2029",
    "żółw 中文 \U0001f600 e\u0301",
    '{"json": "text"}',
    "\\n \\u0041 \\",
)
INTEGERS = (0, 1, -1, 7, 2**31, 2**53 + 1, 2**63 - 1)
AMOUNTS = tuple(map(Decimal, ("0.00", "0.10", "399.99", "400.00", "9999999999.99", "0.01")))
DAYS = (date(1, 1, 1), date(999, 12, 31), date(2026, 11, 30), date(9999, 12, 31))
INSTANTS = (
    datetime(1, 1, 1, tzinfo=UTC),
    datetime(2026, 11, 30, 12, 5, 6, tzinfo=UTC),
    datetime(2026, 11, 30, 12, 5, 6, 120_000, tzinfo=UTC),
    datetime(2026, 11, 30, 0, 0, 0, 1, tzinfo=UTC),
    datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
)
# In the order of keys in which PostgreSQL stores them.
OBJECTS: tuple[dict[str, Any], ...] = (
    {},
    {"b": [1, 2.5, None, "é\n"], "monday": {"enabled": True, "start_time": "09:00"}},
)
VALUES: dict[Any, tuple[Any, ...]] = {
    str: TEXTS,
    int: INTEGERS,
    bool: (True, False),
    float: (0.5, 1.25),
    Decimal: AMOUNTS,
    date: DAYS,
    datetime: INSTANTS,
    NaiveDatetime: tuple(instant.replace(tzinfo=None) for instant in INSTANTS[1:-1]),
    UUID: (UUID(int=0), UUID(int=2**128 - 1)),
    Any: ("a", 1, None),
}
COLUMNS: dict[Any, Any] = {**TYPES, date: Date, bool: Boolean, NaiveDatetime: DateTime()}


def a_value(annotation: Any, random: Random) -> Any:
    """Return a value of a type, as Python has it after a row was read."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is NoneType:
        return None
    if origin is Annotated:
        return a_value(arguments[0], random)
    if origin is list:
        return [a_value(arguments[0], random) for _ in range(random.randrange(4))]
    if origin is dict and arguments == (str, Any):
        return random.choice(OBJECTS)
    if origin is dict:
        return dict([tuple(a_value(part, random) for part in arguments)])
    if origin is Literal:
        return random.choice(arguments)
    if arguments:
        return a_value(random.choice(arguments), random)
    if issubclass(annotation, Enum):
        return random.choice(list(annotation))
    if issubclass(annotation, BaseModel):
        return a_row(annotation, random)
    return random.choice(VALUES[annotation])


def a_row(model: type[BaseModel], random: Random) -> BaseModel:
    """Return a response model with values that a row can have."""
    values = {name: a_value(f.annotation, random) for name, f in model.model_fields.items()}
    if "timezone" in values:
        values["timezone"] = "Europe/Warsaw"
    return model.model_construct(**values)


def column_of(annotation: Any, value: Any) -> Any:
    """Return a value as a column of its usual type has it."""
    types = {part for part in get_args(annotation) or (annotation,) if part is not NoneType}
    types = {get_args(part)[0] if get_origin(part) is Annotated else part for part in types}
    [kind] = types if len(types) == 1 else [str]
    if isinstance(value, dict | BaseModel) or (value and isinstance(value, list) and kind is dict):
        return cast(literal(_json(value), Text), JSONB)
    if annotation == list[str]:
        return cast(literal(value, ARRAY(Text)), ARRAY(Text))
    if annotation in (list[int], list[int] | None):
        return cast(literal(value, ARRAY(TYPES[int])), ARRAY(TYPES[int]))
    if isinstance(value, list):
        return cast(literal(json.dumps([json.loads(_json(each)) for each in value]), Text), JSONB)
    column_type = COLUMNS.get(kind, Text)
    return cast(literal(value, column_type), column_type)


def _json(value: Any) -> str:
    adapter: TypeAdapter[Any] = TypeAdapter(type(value))
    return without_marks(adapter.dump_json(value)).decode()


def fields_of(row: BaseModel) -> dict[str, Any]:
    fields = type(row).model_fields
    return {name: column_of(field.annotation, getattr(row, name)) for name, field in fields.items()}


@pytest.fixture
async def reader() -> AsyncIterator[Reader]:
    url = SecretStr(os.environ["CARNET_TEST_DATABASE_URL"])
    engine: AsyncEngine = make_engine(asyncpg_url(url))
    yield Reader(engine, EVERYTHING)
    await engine.dispose()


def models_of(apps: dict[Service, FastAPI]) -> set[type[BaseModel]]:
    """Return the response models, single or listed, of every route."""
    models = set()
    for app in apps.values():
        for context in iter_route_contexts(app.routes):
            if isinstance(context.route, APIRoute) and context.route.methods == {"GET"}:
                model = context.route.response_model
                model = get_args(model)[0] if get_origin(model) is list else model
                if isinstance(model, type) and issubclass(model, BaseModel):
                    models.add(model)
    return models


async def test_a_row_is_the_json_of_its_model(apps: dict[Service, FastAPI], reader: Reader) -> None:
    random = Random(15)
    models = models_of(apps)
    assert len(models) > 20
    for model in sorted(models, key=lambda each: each.__name__):
        for _ in range(ROWS):
            row = a_row(model, random)
            document = await JsonQuery(model, select(), fields_of(row)).find(reader)
            adapter: TypeAdapter[Any] = TypeAdapter(model)
            assert document is not None
            expected = adapter.dump_json(row, warnings="none")
            assert document.body == without_marks(expected), model


class Inner(BaseModel):
    code: str
    count: int | None
    price: Decimal | None


class Outer(BaseModel):
    first: Inner
    rows: list[Inner]


async def test_nested_models_are_written_inside_the_database(reader: Reader) -> None:
    fields = {"code": literal('a "b"\n'), "count": literal(7), "price": literal(Decimal("1.5"))}
    query = JsonQuery(
        Outer,
        select(),
        {
            "first": json_object(Inner, {**fields, "count": cast(None, TYPES[int])}),
            "rows": json_list(Inner, select(), fields, order=(literal(1),)),
        },
    )
    document = await query.find(reader)
    assert document is not None
    inner = rb'"code":"a \"b\"\n","count":%s,"price":1.50'
    assert document.body == b'{"first":{%s},"rows":[{%s}]}' % (inner % b"null", inner % b"7")


async def test_a_moment_that_python_cannot_store_is_the_nearest_of_requests(
    reader: Reader,
) -> None:
    class Moments(BaseModel):
        day: date
        instant: datetime

    for text, day, instant in (
        ("infinity", "8999-12-31", "8999-12-31T23:59:59.999999Z"),
        ("-infinity", "1000-01-01", "1000-01-01T00:00:00Z"),
        ("0044-03-15 BC", "1000-01-01", "1000-01-01T00:00:00Z"),
        ("20000-01-01", "8999-12-31", "8999-12-31T23:59:59.999999Z"),
    ):
        column = literal(text, Text)
        fields = {"day": cast(column, Date), "instant": cast(column, TYPES[datetime])}
        document = await JsonQuery(Moments, select(), fields).find(reader)
        assert document is not None
        assert json.loads(document.body) == {"day": day, "instant": instant}
