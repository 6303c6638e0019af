"""Conditional requests: ETag and If-Match carry a row's version (RFC 9110, section 13)."""

import re
from typing import Annotated

from fastapi import Depends, Header, Request, Response

from shared.errors import Invalid, StaleVersion

_TAG = r'((W/)?"[!#-~]*"|[0-9]{1,18})'  # the quotes may be missing, as on a command line
_TAGS = rf"^[ ,]*(\*|{_TAG}( *,[ ,]*{_TAG})*)[ ,]*$"


TaggedResponse = Annotated[Response, "ETag"]
"""The response of a route that calls `set_etag`: the OpenAPI document says so."""


def set_etag(response: Response, version: int) -> None:
    """Tell the client which version it was shown."""
    response.headers["ETag"] = f'"{version}"'


class Precondition:
    """What a change demands of the present version: one of these tags, or nothing."""

    def __init__(self, tags: frozenset[str] | None) -> None:
        self._tags = tags

    def check(self, version: int) -> None:
        """Raise StaleVersion when the row is no longer what the client has read."""
        if self._tags is not None and str(version) not in self._tags:
            raise StaleVersion


async def _if_match(
    request: Request,
    if_match: Annotated[
        str | None,
        Header(
            description="The ETag that was read; 412 when it is stale, or weak",
            json_schema_extra={"pattern": _TAGS},
        ),
    ] = None,
) -> Precondition:
    if if_match is None:
        return Precondition(None)
    sent = ",".join(request.headers.getlist("if-match"))  # RFC 9110, section 5.3
    if not re.fullmatch(_TAGS, sent):
        raise Invalid("If-Match", 'must be an ETag such as "2", several, or *')
    if sent.strip(" ,") == "*":
        return Precondition(None)
    # The comparison is strong (section 13.1.1): a weak tag keeps its W/, so equals no version.
    return Precondition(frozenset(tag.strip('"') for tag, *_ in re.findall(_TAG, sent)))


PreconditionDep = Annotated[Precondition, Depends(_if_match)]
