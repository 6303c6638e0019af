"""Conditional requests: ETag and If-Match contain a row's version (RFC 9110, section 13)."""

import re
from typing import Annotated

from fastapi import Depends, Header, Request, Response

from shared.errors import Invalid, StaleVersion

_TAG = r'((W/)?"[!#-~]*"|[0-9]{1,18})'  # without quotes too, for a command line
_TAGS = rf"^[ ,]*(\*|{_TAG}( *,[ ,]*{_TAG})*)[ ,]*$"


TaggedResponse = Annotated[Response, "ETag"]
"""The response of a route that calls `set_etag`: its OpenAPI description has the header."""


def set_etag(response: Response, version: int) -> None:
    """Set the header ETag to the version of the row in the response."""
    response.headers["ETag"] = f'"{version}"'


class Precondition:
    """The condition of a change: the row must have the version of one of these tags.

    None sets no condition.
    """

    def __init__(self, tags: frozenset[str] | None) -> None:
        self._tags = tags

    def check(self, version: int) -> None:
        """Raise StaleVersion if the row has another version than the client has read."""
        if self._tags is not None and str(version) not in self._tags:
            raise StaleVersion


async def read_if_match(
    request: Request,
    if_match: Annotated[
        str | None,
        Header(
            description="The ETag that was read; 412 when it is stale, or weak",
            json_schema_extra={"pattern": _TAGS},
        ),
    ] = None,
) -> Precondition:
    """Return the condition of the header If-Match. Raises Invalid for an invalid header."""
    if if_match is None:
        return Precondition(None)
    value = ",".join(request.headers.getlist("if-match"))  # RFC 9110, section 5.3
    if not re.fullmatch(_TAGS, value):
        raise Invalid("If-Match", 'must be an ETag such as "2", several, or *')
    if value.strip(" ,") == "*":
        return Precondition(None)
    # The comparison is strong (section 13.1.1): a weak tag still has its W/ and equals no version.
    return Precondition(frozenset(tag.strip('"') for tag, *_ in re.findall(_TAG, value)))


PreconditionDep = Annotated[Precondition, Depends(read_if_match)]
