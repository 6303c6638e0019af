"""Responses whose JSON is written already, by `shared.reads`."""

from fastapi import Response

from shared.preconditions import set_etag


class ResponseWithSecret(Response):
    """A JSON response with a secret that is shown once.

    `repeated` is the body for a repetition with the same Idempotency-Key. It lacks the secret, for
    it is stored.
    """

    def __init__(self, body: bytes, *, repeated: bytes, status_code: int) -> None:
        super().__init__(body, status_code=status_code, media_type="application/json")
        self.repeated = repeated


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
