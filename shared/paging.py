"""Keyset paging: an opaque cursor to the next page, in a Link header (RFC 8288)."""

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Query, Request, Response
from pydantic import BaseModel
from sqlalchemy import BigInteger, Select, literal, tuple_
from sqlalchemy import Row as SelectedRow
from sqlalchemy.orm import InstrumentedAttribute

from shared.errors import Invalid
from shared.fields import QueryNumber

DEFAULT_LIMIT = 50
MAX_LIMIT = 200
_CURSOR_RULE = "is not a cursor of this list; take one from the header Link of a page"

Row = TypeVar("Row")
Model = TypeVar("Model", bound=BaseModel)
Key = InstrumentedAttribute[int]


@dataclass(frozen=True, slots=True)
class Page:
    """Which page of a list is wanted: `limit` rows behind the position `after`."""

    limit: int
    after: tuple[int, ...] | None
    request: Request
    response: Response

    def of(self, statement: Select[Any], *keys: Key) -> Select[Any]:
        """Order by the keys (unique together), newest first, from where the cursor points.

        One row more than the page is taken, which tells whether there is a next one.
        Raises Invalid when the cursor belongs to another list.
        """
        if self.after is not None:
            if len(self.after) != len(keys):
                raise Invalid(
                    "cursor",
                    _CURSOR_RULE,
                )
            # Typed by hand: a bare number would be sent as a 32-bit integer.
            position = [literal(part, BigInteger) for part in self.after]
            statement = statement.where(tuple_(*keys) < tuple_(*position))
        return statement.order_by(*(key.desc() for key in keys)).limit(self.limit + 1)

    def cut(self, rows: Sequence[Row], position: Callable[[Row], tuple[int, ...]]) -> list[Row]:
        """Return this page's rows and announce the next page, if there is one."""
        page = list(rows[: self.limit])
        if len(rows) > self.limit:
            cursor = _encode(position(page[-1]))
            query = self.request.url.include_query_params(cursor=cursor, limit=self.limit).query
            self.response.headers["Link"] = f'<{self.request.url.path}?{query}>; rel="next"'
        return page


def listed(model: type[Model], rows: Sequence[SelectedRow[Any]]) -> list[Model]:
    """Return selected rows as the API lists them.

    By way of dicts: pydantic reads the attributes of such a row in twice the time, and a row looks
    its names up anew for each dict that it makes.
    """
    names = rows[0]._fields if rows else ()
    return [model.model_validate(dict(zip(names, row, strict=True))) for row in rows]


def _encode(position: tuple[int, ...]) -> str:
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode().rstrip("=")


def _decode(cursor: str) -> tuple[int, ...]:
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        position = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        if not isinstance(position, list) or not all(type(part) is int for part in position):
            raise ValueError(cursor)
        if any(abs(part) >= 2**63 for part in position):
            raise ValueError(cursor)
    except (ValueError, binascii.Error, RecursionError):
        raise Invalid(
            "cursor",
            _CURSOR_RULE,
        ) from None
    return tuple(position)


async def wanted_page(
    request: Request,
    response: Response,
    limit: Annotated[QueryNumber, Query(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT,
    cursor: Annotated[str | None, Query(max_length=500)] = None,
) -> Page:
    """Read the page that a request asks for."""
    return Page(limit, _decode(cursor) if cursor else None, request, response)


PageDep = Annotated[Page, Depends(wanted_page)]
