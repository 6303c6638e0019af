"""The headers that are forwarded in each direction, and those that the gateway adds."""

from dataclasses import dataclass, field
from functools import lru_cache

from gateway.errors import MalformedRequest, UnknownTransferCoding

RawHeaders = list[tuple[bytes, bytes]]

# RFC 9110 7.6.1, and what older software treats in the same way. The gateway's own server answers
# `expect`. `host` is the upstream's, so that no service uses a name that a client invented.
# `content-length` is replaced by the length of the received body.
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

# Headers that the gateway itself reads. A repeated header of `_SINGLE` is refused.
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

# The gateway sets these itself; a service's values are dropped.
_REPLACED_IN_RESPONSES = frozenset(
    {
        b"date",  # the gateway's server adds it
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
    """What the gateway needs of a request's headers, read in one pass."""

    forwarded: RawHeaders = field(default_factory=list)
    read: dict[bytes, bytes] = field(default_factory=dict)
    content_length: int | None = None
    chunked: bool = False

    @property
    def has_body(self) -> bool:
        """Whether a body follows the head."""
        return self.chunked or bool(self.content_length)


@lru_cache(maxsize=1024)
def _is_forwarded(name: bytes) -> bool:
    """Return whether a request header is sent to the service."""
    # Some servers read `X_User_Id` as `X-User-Id`.
    canonical = name.decode("latin-1").replace("_", "-")
    if canonical in _NOT_FORWARDED:
        return False
    return not canonical.startswith(_IDENTITY_PREFIXES)


def read_head(headers: RawHeaders, http_version: str) -> RequestHead:
    """Split a request's headers into those to forward and those that the gateway reads.

    Raises MalformedRequest (400) or UnknownTransferCoding (501) if the framing or a value is
    ambiguous (RFC 9112 3.2 and 6.1).
    """
    if http_version not in ("1.1", "1.0"):
        raise MalformedRequest("This version of HTTP is not supported. Use HTTP/1.1.")
    forwarded: RawHeaders = []
    read: dict[bytes, bytes] = {}
    for pair in headers:
        name, value = pair
        if _is_forwarded(name):
            if not value.isascii():
                _require_utf_8(value)
            forwarded.append(pair)
        if name in _READ:
            if name in read:
                _add_repeated(read, name, value)
            else:
                read[name] = value
    head = RequestHead(forwarded, read)
    if b"host" not in read and http_version == "1.1":
        raise MalformedRequest("The header host is missing. Send it once.")
    _read_framing(head, http_version)
    connection = read.get(b"connection", b"keep-alive")
    if connection not in _PLAIN_CONNECTION:
        hop_by_hop = _connection_options(connection) - _PLAIN_CONNECTION
        head.forwarded = [pair for pair in head.forwarded if pair[0] not in hop_by_hop]
    return head


def _require_utf_8(value: bytes) -> None:
    try:
        value.decode()
    except UnicodeDecodeError:
        raise MalformedRequest("A header's value is not valid UTF-8. Encode it.") from None


def _add_repeated(read: dict[bytes, bytes], name: bytes, value: bytes) -> None:
    if name in _SINGLE:
        raise MalformedRequest(f"The header {name.decode()} is repeated. Send it once.")
    read[name] += b"," + value


def _read_framing(head: RequestHead, http_version: str) -> None:
    length = head.read.get(b"content-length")
    coding = head.read.get(b"transfer-encoding")
    if length is not None:
        if coding is not None:
            raise MalformedRequest("Content-Length and Transfer-Encoding are both there. Send one.")
        if not (length.isdigit() and len(length) < 20):
            raise MalformedRequest("Content-Length is not a number. Send the body's size in bytes.")
        head.content_length = int(length)
    elif coding is not None:
        if http_version != "1.1":
            raise MalformedRequest("HTTP/1.0 has no Transfer-Encoding. Send Content-Length.")
        if coding.strip().lower() != b"chunked":
            raise UnknownTransferCoding
        head.chunked = True


def response_headers(pairs: RawHeaders, status: int) -> RawHeaders:
    """Return the headers of a service that are sent to the client.

    Hop-by-hop headers and those that the gateway sets are dropped. Content-Length is ignored beside
    Transfer-Encoding (RFC 9112 6.3), and on 204 or 304 it would make the gateway's server wait for
    a body.
    """
    headers: RawHeaders = []
    dropped_names: frozenset[bytes] = frozenset()  # besides those of every response
    for pair in pairs:
        name, value = pair
        if name not in _DROPPED_FROM_RESPONSES:
            headers.append(pair)
        elif name == b"transfer-encoding":
            dropped_names |= {b"content-length"}
        elif name == b"connection" and value not in _PLAIN_CONNECTION:
            dropped_names |= _connection_options(value) - {b"content-length"}
    if status in (204, 304):
        dropped_names |= {b"content-length"}
    if dropped_names:
        headers = [pair for pair in headers if pair[0] not in dropped_names]
    return headers


def _connection_options(value: bytes) -> frozenset[bytes]:
    return frozenset(part.strip().lower() for part in value.split(b","))


def has_header(headers: RawHeaders, wanted_name: bytes) -> bool:
    """Return whether a header is there; its name must be in lower case."""
    # A generator for `any` takes three times as long.
    for name, _ in headers:  # noqa: SIM110
        if name == wanted_name:
            return True
    return False


def security_headers(*, tls: bool) -> RawHeaders:
    """Return the headers of every response (OWASP REST security). `tls` adds a year of HSTS."""
    headers = [
        (b"x-content-type-options", b"nosniff"),
        (b"x-frame-options", b"DENY"),
        (b"referrer-policy", b"no-referrer"),
        (b"content-security-policy", API_POLICY),
    ]
    if tls:
        headers.append((b"strict-transport-security", b"max-age=31536000; includeSubDomains"))
    return headers
