"""Conditional requests: ETag and If-Match carry a row's version (RFC 9110, section 13)."""

from typing import Annotated

from fastapi import Depends, Header, Response

from shared.errors import Invalid, StaleVersion

_TAGS = r'^ *(\*|"?[0-9]{1,18}"?( *, *"?[0-9]{1,18}"?)*) *$'


def set_etag(response: Response, version: int) -> None:
    """Tell the client which version it was shown."""
    response.headers["ETag"] = f'"{version}"'


class Precondition:
    """What a change demands of the present version: `If-Match`, or nothing."""

    def __init__(self, versions: frozenset[int] | None) -> None:
        self.versions = versions

    def check(self, version: int) -> None:
        """Raise StaleVersion when the row is no longer what the client has read."""
        if self.versions is not None and version not in self.versions:
            raise StaleVersion


async def _if_match(
    if_match: Annotated[
        str | None,
        Header(
            description="The ETag that was read; 412 when it is stale",
            json_schema_extra={"pattern": _TAGS},
        ),
    ] = None,
) -> Precondition:
    if if_match is None or if_match.strip() == "*":
        return Precondition(None)
    try:
        return Precondition(frozenset(int(tag.strip().strip('"')) for tag in if_match.split(",")))
    except ValueError:
        raise Invalid("If-Match", "must be an ETag that this API gave out") from None


PreconditionDep = Annotated[Precondition, Depends(_if_match)]
