"""Rows as JSON: a row of a query becomes the JSON of a response model inside PostgreSQL.

The expressions here are made once from the model, and their text is that of pydantic, byte by byte.
A value of a field that PostgreSQL cannot write so, such as a stored JSON document, is marked in the
text and written by pydantic itself.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from uuid import UUID

from pydantic import BaseModel, NaiveDatetime, TypeAdapter
from pydantic.fields import FieldInfo
from pydantic_core import from_json
from sqlalchemy import (
    JSON,
    ColumnElement,
    Label,
    Numeric,
    Select,
    Subquery,
    Text,
    case,
    cast,
    func,
    literal_column,
    select,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by

from shared.moments import FIRST_DAY, FIRST_INSTANT, LAST_DAY, LAST_INSTANT
from shared.money import without_marks

Fields = Mapping[str, Any]
"""The column or expression of each field of a model; further names are ignored."""

# PostgreSQL writes no line break between the values of a row, and as \n those inside of texts.
_MARK = "\n"
_MARK_SQL: ColumnElement[str] = literal_column("E'\\n'", Text)
_TEMPLATE = 'YYYY-MM-DD"T"HH24:MI:SS.US'
_SCALARS = (bool, int, str, UUID, Decimal)


class PreparedJson(JSON):
    """The type of an expression that is the JSON of its field already."""


class JsonRows:
    """The rows of a query as JSON: their expression, and the rest of the work in Python."""

    def __init__(self, model: type[BaseModel], fields: Fields) -> None:
        self._adapters: list[TypeAdapter[Any]] = []
        self.columns = [
            self._column(field, fields[name]).label(name)
            for name, field in model.model_fields.items()
        ]

    def _column(self, field: FieldInfo, expression: ColumnElement[Any]) -> ColumnElement[Any]:
        if (column := _column_of(field, expression)) is not None:
            return column
        annotation: Any = field.annotation
        for part in field.metadata:
            annotation = Annotated[annotation, part]
        self._adapters.append(TypeAdapter(annotation))
        text = func.coalesce(cast(expression, Text), _text("null"))
        return cast(_MARK_SQL.concat(text).concat(_MARK_SQL), PreparedJson)

    def body(self, rows: Sequence[str]) -> bytes:
        """Return the JSON of a list of rows."""
        return f"[{self._complete(','.join(rows))}]".encode()

    def one(self, row: str) -> bytes:
        """Return the JSON of one row."""
        return self._complete(row).encode()

    def _complete(self, text: str) -> str:
        if not self._adapters:
            return text
        pieces = text.split(_MARK)
        # Many rows have the same values, as the booking rules of a voucher type.
        texts: dict[tuple[int, str], str] = {}
        for place in range(1, len(pieces), 2):
            number = place // 2 % len(self._adapters)
            key = (number, pieces[place])
            if key not in texts:
                texts[key] = _written(self._adapters[number], pieces[place])
            pieces[place] = texts[key]
        return "".join(pieces)


def _written(adapter: TypeAdapter[Any], text: str) -> str:
    value = adapter.validate_python(from_json(text), from_attributes=True)
    return without_marks(adapter.dump_json(value)).decode()


def json_object(model: type[BaseModel], fields: Fields) -> ColumnElement[Any]:
    """Return the JSON object of a model, for a field of another one."""
    text = _text("{")
    for number, column in enumerate(_plain_columns(model, fields)):
        name = _text(f'{"," if number else ""}"{column.name}":')
        value = func.coalesce(cast(func.to_json(column.element), Text), _text("null"))
        text = text.concat(name).concat(value)
    return cast(text.concat(_text("}")), PreparedJson)


def json_list(
    model: type[BaseModel], source: Select[Any], fields: Fields, order: Sequence[Any]
) -> ColumnElement[Any]:
    """Return the JSON list of the rows of `source`, for a field of another model."""
    places = [key.label(f"place_{number}") for number, key in enumerate(order)]
    rows = source.with_only_columns(*_plain_columns(model, fields), *places).subquery("items")
    values = values_of(rows, model)
    items = aggregate_order_by(_text(","), *(rows.c[place.name] for place in places))
    item_texts = func.string_agg(cast(whole_row(values), Text), items)
    text = _text("[").concat(func.coalesce(item_texts, _text(""))).concat(_text("]"))
    statement = select(text).select_from(rows, values)
    return cast(statement.scalar_subquery(), PreparedJson)


def values_of(rows: Subquery, model: type[BaseModel]) -> Any:
    """Return the fields of a model as one value for each of `rows`."""
    # As text: SQLAlchemy would repeat a FROM that has no other table.
    names = model.model_fields
    columns: Iterator[Label[Any]] = (
        literal_column(f"{rows.name}.{name}").label(name) for name in names
    )
    return select(*columns).lateral(f"{rows.name}_values")


def whole_row(values: Any) -> ColumnElement[Any]:
    """Return the JSON object of all columns of a row."""
    return func.row_to_json(values.table_valued())


def _plain_columns(model: type[BaseModel], fields: Fields) -> list[Label[Any]]:
    columns: list[Label[Any]] = []
    for name, field in model.model_fields.items():
        column = _column_of(field, fields[name])
        if column is None:
            raise TypeError(f"{model.__name__}.{name} cannot be written inside PostgreSQL")
        columns.append(column.label(name))
    return columns


def _column_of(field: FieldInfo, expression: ColumnElement[Any]) -> ColumnElement[Any] | None:
    """Return the expression that PostgreSQL writes as pydantic does; None if there is none."""
    if isinstance(expression.type, PreparedJson):
        return expression
    types = _types_of(field.annotation)
    if types == {datetime}:
        return _instant(expression)
    if types == {NaiveDatetime}:
        return _local_time(expression)
    if types == {date}:
        return _day(expression)
    if types == {Decimal}:
        return cast(expression, Numeric(12, 2))
    if len(types) == 1 and all(isinstance(t, type) and issubclass(t, _SCALARS) for t in types):
        return expression
    return expression if types in ({list[int]}, {list[str]}) else None


def _types_of(annotation: Any) -> set[Any]:
    """Return the types of an annotation without None."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _types_of(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return {type_ for part in get_args(annotation) for type_ in _types_of(part)}
    if origin is Literal:
        return {type(value) for value in get_args(annotation)}
    return set() if annotation is NoneType else {annotation}


def _text(constant: str) -> ColumnElement[str]:
    return literal_column(f"'{constant}'", Text)


def _instant(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return an instant as text; those that Python cannot store as in `shared.moments`."""
    text = func.to_char(func.timezone(_text("UTC"), column), _text(f'{_TEMPLATE}"Z"'))
    return case(
        (column.is_(None), literal_column("NULL", Text)),
        (column < _text("0001-01-01T00:00:00Z"), _text(_written_instant(FIRST_INSTANT))),
        (column >= _text("10000-01-01T00:00:00Z"), _text(_written_instant(LAST_INSTANT))),
        else_=func.replace(text, _text(".000000Z"), _text("Z")),
    )


def _local_time(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return the time of a wall clock as text, as Python writes it."""
    # Without a case for infinity: no wall clock shows it.
    return func.replace(func.to_char(column, _text(_TEMPLATE)), _text(".000000"), _text(""))


def _written_instant(instant: datetime) -> str:
    return instant.isoformat().replace("+00:00", "Z")


def _day(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return a day as text; those that Python cannot store as in `shared.moments`."""
    return case(
        (column.is_(None), literal_column("NULL", Text)),
        (column < _text("0001-01-01"), _text(FIRST_DAY.isoformat())),
        (column > _text("9999-12-31"), _text(LAST_DAY.isoformat())),
        else_=cast(column, Text),
    )
