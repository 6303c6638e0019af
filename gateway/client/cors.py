"""Cross-origin requests (the Fetch standard): off, or for exactly the configured origins.

Pages send tokens in the Authorization header. Requests with cookies are not allowed.
"""

from collections.abc import Iterable

from gateway.headers import RawHeaders, RequestHead

_METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE"
_REQUEST_HEADERS = b"authorization, content-type, idempotency-key, if-match, x-request-id"
_EXPOSED = (
    b"content-disposition, etag, idempotent-replayed, link, location, ratelimit, "
    b"ratelimit-policy, retry-after, x-request-id"
)
_MAX_AGE = b"600"  # seconds; browsers do not cache a preflight much longer
_VARIES = (b"vary", b"origin")


class Cors:
    """Decides which pages of other origins may read responses."""

    def __init__(self, origins: Iterable[str] = ()) -> None:
        self._allowed: dict[bytes, RawHeaders] = {
            origin.encode("ascii"): [
                _VARIES,
                (b"access-control-allow-origin", origin.encode("ascii")),
                (b"access-control-expose-headers", _EXPOSED),
            ]
            for origin in origins
        }

    @property
    def is_on(self) -> bool:
        """Whether any origin is configured."""
        return bool(self._allowed)

    def headers(self, head: RequestHead) -> RawHeaders:
        """Return the headers of every response; `Vary` keeps the origins apart in caches."""
        return self._allowed.get(head.read.get(b"origin", b""), [_VARIES])

    def preflight(self, method: str, head: RequestHead) -> RawHeaders | None:
        """Return the response's headers if this is a preflight request, else None.

        An origin that is not configured receives no permission, so its browser stops there.
        """
        read = head.read
        if method != "OPTIONS" or b"access-control-request-method" not in read:
            return None
        if read.get(b"origin") not in self._allowed:
            return [(b"vary", b"access-control-request-method, access-control-request-headers")]
        return [
            (b"vary", b"access-control-request-method, access-control-request-headers"),
            (b"access-control-allow-methods", _METHODS),
            (b"access-control-allow-headers", _REQUEST_HEADERS),
            (b"access-control-max-age", _MAX_AGE),
        ]
