"""The media types and the size of request bodies (RFC 9110, sections 15.5.14 and 15.5.16)."""

from fastapi import Request

from shared.errors import AppError

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"

MAX_BYTES = 256 * 1024
"""The largest body that is parsed. The longest valid text, 10,000 characters, has 120,000 bytes if
each character is escaped. The search for card numbers takes 0.2 s for a megabyte."""


class BodyTooLarge(AppError):
    """The body is too large. Send a smaller one."""

    status = 413


class UnsupportedMediaType(AppError):
    """The type or the compression of the body is not supported here. Send JSON, uncompressed."""

    status = 415


async def require_readable(request: Request, media_type: str | None) -> None:
    """Raise UnsupportedMediaType for a body that is compressed or not of the media type.

    None accepts every type: the route does not read the body, or checks the type itself.
    """
    coding = request.headers.get("content-encoding", "").strip().lower() or "identity"
    if coding != "identity" and await request.body():
        detail = "The body is compressed. Send it without compression."
        raise UnsupportedMediaType(detail, headers={"Accept-Encoding": "identity"})
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type in (None, content_type) or not await request.body():
        return
    is_json = content_type.startswith("application/") and content_type.endswith("+json")
    if media_type == JSON and is_json:
        return
    detail = f"The body must be {media_type}. Send it with this Content-Type."
    raise UnsupportedMediaType(detail, headers={"Accept": media_type})


def require_small(body: bytes) -> None:
    """Raise BodyTooLarge for more than MAX_BYTES."""
    if len(body) > MAX_BYTES:
        raise BodyTooLarge(f"The body has {len(body):,} bytes. Send at most {MAX_BYTES:,}.")
