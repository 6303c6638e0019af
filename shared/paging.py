"""Keyset paging: an opaque cursor to the next page, in a Link header (RFC 8288)."""

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Query, Request, Response
from sqlalchemy import BigInteger, Select, literal, tuple_
from sqlalchemy.orm import InstrumentedAttribute

from shared.errors import Invalid
from shared.fields import QueryNumber

DEFAULT_LIMIT = 50
MAX_LIMIT = 200
_CURSOR_RULE = "is not a cursor of this list; take one from the header Link of a page"

Row = TypeVar("Row")
Key = InstrumentedAttribute[int]


@dataclass(frozen=True, slots=True)
class Page:
    """The page of a list that a request asks for: `limit` rows after the position `after`."""

    limit: int
    after: tuple[int, ...] | None
    request: Request
    response: Response

    def of(self, statement: Select[Any], *keys: Key) -> Select[Any]:
        """Order a statement by the keys (unique together), newest first, from the cursor on.

        It selects one row more than the page has, which shows whether there is a next page. Raises
        Invalid if the cursor belongs to another list.
        """
        if after := self.position(len(keys)):
            # With its type: SQLAlchemy would send a number as a 32-bit integer.
            position = [literal(part, BigInteger) for part in after]
            statement = statement.where(tuple_(*keys) < tuple_(*position))
        return statement.order_by(*(key.desc() for key in keys)).limit(self.limit + 1)

    def position(self, keys: int) -> tuple[int, ...]:
        """Return the position after which the page begins, empty for the first page.

        Raises Invalid if the cursor belongs to a list with another number of keys.
        """
        if self.after is not None and len(self.after) != keys:
            raise Invalid("cursor", _CURSOR_RULE)
        return self.after or ()

    def cut(self, rows: Sequence[Row], position: Callable[[Row], tuple[int, ...]]) -> list[Row]:
        """Return the rows of this page, and set the header Link if there is a next one."""
        page = list(rows[: self.limit])
        if len(rows) > self.limit:
            text = json.dumps(position(page[-1]))
            cursor = base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
            query = self.request.url.include_query_params(cursor=cursor, limit=self.limit).query
            self.response.headers["Link"] = f'<{self.request.url.path}?{query}>; rel="next"'
        return page


def read_cursor(cursor: str) -> tuple[int, ...]:
    """Return the position in a cursor. Raises Invalid."""
    try:
        padding = "=" * (-len(cursor) % 4)
        position = json.loads(base64.b64decode(cursor + padding, altchars=b"-_", validate=True))
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


async def requested_page(
    request: Request,
    response: Response,
    limit: Annotated[QueryNumber, Query(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT,
    cursor: Annotated[str | None, Query(max_length=500)] = None,
) -> Page:
    """Return the page that a request asks for. Raises Invalid for an invalid cursor."""
    return Page(limit, read_cursor(cursor) if cursor else None, request, response)


PageDep = Annotated[Page, Depends(requested_page)]
