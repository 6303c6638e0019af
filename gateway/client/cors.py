"""Cross-origin requests (the Fetch standard): off, or for exactly the origins that are named.

Tokens travel in the Authorization header, which a page sets itself; cookies are not let through.
"""

from collections.abc import Iterable

from gateway.headers import RawHeaders, RequestHead

_METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE"
_REQUEST_HEADERS = b"authorization, content-type, idempotency-key, if-match, x-request-id"
_EXPOSED = (
    b"content-disposition, etag, idempotent-replayed, link, location, ratelimit, "
    b"ratelimit-policy, retry-after, x-request-id"
)
_REMEMBERED = b"600"  # seconds; no browser keeps it much longer
_VARIES = (b"vary", b"origin")


class Cors:
    """Which pages of other origins may read our answers."""

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
        """Whether any origin is named."""
        return bool(self._allowed)

    def headers(self, head: RequestHead) -> RawHeaders:
        """What every answer carries, so that a cache never gives one origin another's answer."""
        return self._allowed.get(head.read.get(b"origin", b""), [_VARIES])

    def preflight(self, method: str, head: RequestHead) -> RawHeaders | None:
        """The answer's headers if this is a browser's question before the request; else None.

        To an origin that is not named the answer says nothing, and the browser goes no further.
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
            (b"access-control-max-age", _REMEMBERED),
        ]
