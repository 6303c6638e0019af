"""Responses whose JSON is written already, by `shared.reads`."""

from fastapi import Response

from shared.preconditions import set_etag


def json_response(response: Response, body: bytes, *, version: int | None = None) -> Response:
    """Return the endpoint's response with a JSON body, and with an ETag if there is a version.

    The endpoint's own `response` has the headers that dependencies have set, as Link.
    """
    response.status_code = 200
    response.body = body
    response.headers["content-type"] = "application/json"
    response.headers["content-length"] = str(len(body))
    if version is not None:
        set_etag(response, version)
    return response
