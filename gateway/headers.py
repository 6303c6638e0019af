"""Which headers pass, in which direction, and which the gateway adds."""

from dataclasses import dataclass, field
from functools import lru_cache

from gateway.errors import MalformedRequest, UnknownTransferCoding

RawHeaders = list[tuple[bytes, bytes]]

# RFC 9110 7.6.1, and what older software treats likewise. `expect` is answered by our own server;
# `host` is the upstream's, so that no service ever builds on a name that a client made up.
# `content-length` is replaced by the length of the body that has arrived.
_HOP_BY_HOP = frozenset(
    {
        "connection",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_REPLACED_IN_REQUESTS = frozenset({"content-length"})
_IDENTITY = frozenset({"forwarded", "x-client-address", "x-real-ip", "x-request-id"})
_IDENTITY_PREFIXES = ("x-forwarded-", "x-user-", "x-actor-")

_NOT_FORWARDED = _HOP_BY_HOP | _REPLACED_IN_REQUESTS | _IDENTITY

# Headers whose value the gateway itself reads. Two different opinions on one of these are refused.
_SINGLE = frozenset({b"authorization", b"content-length", b"host", b"transfer-encoding"})
_READ = _SINGLE | {
    b"access-control-request-method",
    b"connection",
    b"cookie",
    b"idempotency-key",
    b"origin",
    b"x-forwarded-for",
    b"x-request-id",
}

# The gateway's own: what a service sent under these names is replaced, never doubled.
_REPLACED_IN_RESPONSES = frozenset(
    {
        b"date",  # our server adds it
        b"server",
        b"x-request-id",
        b"x-content-type-options",
        b"x-frame-options",
        b"referrer-policy",
        b"content-security-policy",
        b"strict-transport-security",
        b"x-powered-by",
    }
)
_HOP_BY_HOP_BYTES = frozenset(name.encode() for name in _HOP_BY_HOP)
_DROPPED_FROM_RESPONSES = _HOP_BY_HOP_BYTES | _REPLACED_IN_RESPONSES

_PLAIN_CONNECTION = frozenset({b"keep-alive", b"close"})

API_POLICY = b"default-src 'none'; frame-ancestors 'none'"


@dataclass(slots=True)
class RequestHead:
    """What the gateway needs to know of a request's headers, read in one pass."""

    forwarded: RawHeaders = field(default_factory=list)
    read: dict[bytes, bytes] = field(default_factory=dict)
    content_length: int | None = None
    chunked: bool = False

    @property
    def has_body(self) -> bool:
        """Whether body bytes follow the head."""
        return self.chunked or bool(self.content_length)


@lru_cache(maxsize=1024)
def _goes_on(name: bytes) -> bool:
    """Whether a request header is for the service."""
    # Some servers read `X_User_Id` as `X-User-Id`.
    canonical = name.decode("latin-1").replace("_", "-")
    if canonical in _NOT_FORWARDED:
        return False
    return not canonical.startswith(_IDENTITY_PREFIXES)


def read_head(headers: RawHeaders, http_version: str) -> RequestHead:
    """Split a request's headers into what goes on and what the gateway reads.

    Raises MalformedRequest or UnknownTransferCoding when the framing or a value is ambiguous
    (RFC 9112 3.2 and 6.1).
    """
    if http_version not in ("1.1", "1.0"):
        raise MalformedRequest("This version of HTTP is not spoken here.")
    head = RequestHead()
    read = head.read
    for name, value in headers:
        if _goes_on(name):
            if not value.isascii():
                _check_text(value)
            head.forwarded.append((name, value))
        if name in _READ:
            _remember(read, name, value)
    _check_host(read, http_version)
    _read_framing(head, http_version)
    if read.get(b"connection", b"keep-alive") not in _PLAIN_CONNECTION:
        _drop_named_in_connection(head)
    return head


def _check_text(value: bytes) -> None:
    try:
        value.decode()
    except UnicodeDecodeError:
        raise MalformedRequest("A header's value is not valid UTF-8.") from None


def _remember(read: dict[bytes, bytes], name: bytes, value: bytes) -> None:
    if name not in read:
        read[name] = value
    elif name in _SINGLE:
        raise MalformedRequest(f"The header {name.decode()} was sent more than once.")
    else:
        read[name] += b"," + value


def _check_host(read: dict[bytes, bytes], http_version: str) -> None:
    if b"host" not in read and http_version == "1.1":
        raise MalformedRequest("The header host is missing.")


def _read_framing(head: RequestHead, http_version: str) -> None:
    length = head.read.get(b"content-length")
    coding = head.read.get(b"transfer-encoding")
    if length is not None:
        if coding is not None:
            raise MalformedRequest("Content-Length and Transfer-Encoding contradict each other.")
        if not (length.isdigit() and len(length) < 20):
            raise MalformedRequest("Content-Length is not a number.")
        head.content_length = int(length)
    elif coding is not None:
        if http_version != "1.1":
            raise MalformedRequest("HTTP/1.0 has no Transfer-Encoding.")
        if coding.strip().lower() != b"chunked":
            raise UnknownTransferCoding
        head.chunked = True


def _drop_named_in_connection(head: RequestHead) -> None:
    named = {part.strip().lower() for part in head.read[b"connection"].split(b",")}
    named -= {b"", b"close", b"keep-alive"}
    if named:
        head.forwarded = [pair for pair in head.forwarded if pair[0] not in named]


def response_headers(pairs: RawHeaders, status: int) -> RawHeaders:
    """What of a service's headers goes to the client: no hop-by-hop ones, none of our own.

    A Content-Length beside Transfer-Encoding is void (RFC 9112 6.3), and one on 204 or 304 would
    make our server wait for a body that never comes.
    """
    dropped = _DROPPED_FROM_RESPONSES
    for name, value in pairs:
        if name == b"transfer-encoding":
            dropped = dropped | {b"content-length"}
        elif name == b"connection" and value not in _PLAIN_CONNECTION:
            dropped = dropped | _named_in(value)
    if status in (204, 304):
        dropped = dropped | {b"content-length"}
    return [pair for pair in pairs if pair[0] not in dropped]


def _named_in(connection: bytes) -> frozenset[bytes]:
    return frozenset(part.strip().lower() for part in connection.split(b",")) - {b"content-length"}


def security_headers(*, tls: bool, policy: bytes = API_POLICY) -> RawHeaders:
    """The headers on every answer (OWASP REST security). `tls` adds a year of HSTS."""
    headers = [
        (b"x-content-type-options", b"nosniff"),
        (b"x-frame-options", b"DENY"),
        (b"referrer-policy", b"no-referrer"),
        (b"content-security-policy", policy),
    ]
    if tls:
        headers.append((b"strict-transport-security", b"max-age=31536000; includeSubDomains"))
    return headers
