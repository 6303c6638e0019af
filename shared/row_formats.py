"""How rows of a model are written without the ORM: their columns, parameters and defaults.

All of it is read from the mapping, once for each model, so that a row is the same whichever way it
is written.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import getattr_static
from typing import Any

from sqlalchemy import Column, inspect

from shared.change_events import Values
from shared.db import DIALECT, Entity

Model = type[Any]
"""A mapped class."""

_QUOTES = DIALECT.identifier_preparer


class NewId(int):
    """The id of a row that is not written yet, for other rows and events of the same statement.

    The number is random and negative: in an event's text, where the statement replaces it by the
    real id, no other value is equal to it.
    """

    assigned: int | None = None

    @classmethod
    def unique(cls) -> "NewId":
        """Return a new one. All have the same number of digits."""
        return cls(-(2**62) - secrets.randbits(62))


@dataclass(frozen=True, slots=True)
class ColumnFormat:
    """A column as SQL names it, and what a value that is missing becomes."""

    sql: str
    type_sql: str
    convert: Callable[[Any], Any] | None
    stores_none: bool
    """Whether None is a value of its own, as in a JSON column, and not a missing value."""
    default: Callable[[], Any] | None
    onupdate: Callable[[], Any] | None
    from_server: bool
    """Whether the server has a value if the statement has none: an id, for instance."""

    @classmethod
    def of(cls, column: Column[Any]) -> "ColumnFormat":
        """Return the format of a column. Raises TypeError for a default that is SQL."""
        impl = column.type.dialect_impl(DIALECT)
        return cls(
            sql=_QUOTES.format_column(column),
            type_sql=column.type.compile(dialect=DIALECT),
            convert=impl.bind_processor(DIALECT),
            stores_none=column.type.should_evaluate_none,
            default=_generator(column.default),
            onupdate=_generator(column.onupdate),
            from_server=column.identity is not None or column.server_default is not None,
        )

    def parameter(self, value: Any) -> Any:
        """Return a value as the driver takes it. A NewId remains until its row is sent."""
        if isinstance(value, NewId):
            return value if value.assigned is None else value.assigned
        return value if self.convert is None else self.convert(value)


def _generator(default: Any) -> Callable[[], Any] | None:
    if default is None:
        return None
    if default.is_scalar:
        return lambda: default.arg
    if default.is_callable:
        return lambda: default.arg(None)
    raise TypeError(f"{default!r} is evaluated by the server: give the value of the column")


class ModelFormat:
    """The table of a model and its columns, by the names of the model's attributes."""

    def __init__(self, kind: Model) -> None:
        mapper = inspect(kind)
        self.kind = kind
        self.table = _QUOTES.format_table(mapper.local_table)
        self.columns = {
            attribute.key: ColumnFormat.of(attribute.columns[0])
            for attribute in mapper.column_attrs
        }
        self.next_version: Callable[[int | None], int] = mapper.version_id_generator
        self._renewed = {
            name: column.onupdate for name, column in self.columns.items() if column.onupdate
        }
        self._organization = getattr_static(kind, "audited_organization_id", None)

    def require_columns(self, names: Mapping[str, Any]) -> None:
        """Raise TypeError for a name that the model does not have."""
        if unknown := names.keys() - self.columns.keys():
            raise TypeError(f"{self.kind.__name__} has no column {', '.join(sorted(unknown))}")

    def new_row(self, given: Mapping[str, Any]) -> tuple[Values, list[Any]]:
        """Return the values of a new row and their parameters, without those of the server."""
        self.require_columns(given)
        row, parameters = {}, []
        for name, column in self.columns.items():
            value = given.get(name)
            if value is None and not (column.stores_none and name in given):
                if column.default is not None:
                    value = column.default()
                elif column.from_server:
                    continue
            missing = value is None and name not in given
            parameters.append(None if missing else column.parameter(value))
            row[name] = value
        return row, parameters

    def new_columns(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
        """Return the columns of new rows as parameters, without those that the server fills.

        Raises TypeError if the rows do not all have the same columns.
        """
        first_row = rows[0]
        self.require_columns(first_row)
        if any(row.keys() != first_row.keys() for row in rows):
            raise TypeError(f"the rows of {self.kind.__name__} have different columns")
        columns: dict[str, list[Any]] = {}
        for name, column in self.columns.items():
            values = [row.get(name) for row in rows]
            if not (column.stores_none and name in first_row):
                if column.default is not None:
                    values = [column.default() if value is None else value for value in values]
                elif name not in first_row or (column.from_server and not any(values)):
                    continue
            columns[name] = [column.parameter(value) for value in values]
        return columns

    def changed_columns(self, given: Mapping[str, Any]) -> Values:
        """Return the columns that an update writes: those given, and those that it renews."""
        self.require_columns(given)
        renewals = {name: renew() for name, renew in self._renewed.items() if name not in given}
        return {**given, **renewals}

    def parameters(self, values: Mapping[str, Any]) -> list[Any]:
        """Return values of columns as the driver takes them."""
        return [self.columns[name].parameter(value) for name, value in values.items()]

    def organization_of(self, row: Mapping[str, Any]) -> int | None:
        """Return the organization whose audit log shows a change of the row.

        The model's own property decides. Raises KeyError for a column that it needs and that `row`
        does not have.
        """
        organization_id: int | None = self._organization.fget(_RowView(self, row))
        return None if organization_id is None else int(organization_id)


class _RowView:
    """Values of a row as attributes, for a property of its model."""

    def __init__(self, model: ModelFormat, row: Mapping[str, Any]) -> None:
        self._model = model
        self._row = row

    def __getattr__(self, name: str) -> Any:
        if name in self._model.columns:
            return self._row[name]  # not AttributeError, which getattr with a default hides
        attribute = getattr_static(self._model.kind, name)
        return attribute.__get__(self) if hasattr(attribute, "__get__") else attribute


_FORMATS: dict[Model, ModelFormat] = {}


def format_of(kind: Model) -> ModelFormat:
    """Return the format of a model's rows."""
    if (row_format := _FORMATS.get(kind)) is None:
        row_format = _FORMATS[kind] = ModelFormat(kind)
    return row_format


def require_audited(kind: type[Any]) -> None:
    """Raise TypeError unless the model is audited."""
    if not issubclass(kind, Entity):
        raise TypeError(f"{kind.__name__} is not audited: use insert_many or update")


def require_unaudited(kind: type[Any]) -> None:
    """Raise TypeError if the model is audited: its changes are written with their action."""
    if issubclass(kind, Entity):
        raise TypeError(f"{kind.__name__} is audited: use insert or change, with an action")
