"""The errors of the gateway itself; every other error is a service's own."""

from collections.abc import Mapping

from shared.errors import AppError, ServiceUnavailable


class MalformedPath(AppError):
    """The path is ambiguous. Send one without empty, dot or specially encoded segments."""

    status = 400


class MalformedRequest(AppError):
    """The head of the request is invalid or ambiguous. Send it as RFC 9112 defines it."""

    status = 400


class UnknownPath(AppError):
    """Nothing exists at this path. Compare it with /openapi.json."""

    status = 404


class UnknownMethod(AppError):
    """This method is not supported. Use one of those in the header Allow."""

    status = 405

    def __init__(self, *, headers: Mapping[str, str] | None = None) -> None:
        # telemetry.METHODS: only the services know the methods of each path.
        super().__init__(
            headers=headers or {"Allow": "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"}
        )


class BodyTooSlow(AppError):
    """The body did not arrive in time. Send it faster."""

    status = 408


class HeadTooSlow(AppError):
    """The request line and the headers did not arrive in time. Send them at once."""

    status = 408


class TooManyRequests(AppError):
    """Too many requests in a short time. Wait as long as the header Retry-After states."""

    status = 429


class HeadTooLarge(AppError):
    """The request line and the headers are too large. Shorten them."""

    status = 431


class InternalError(AppError):
    """An unexpected error occurred. Try again later."""

    status = 500


class UnknownTransferCoding(AppError):
    """The transfer coding is not supported. Use `chunked` or Content-Length."""

    status = 501


class UpstreamFailed(AppError):
    """The service failed. Check whether the request took effect before you repeat it."""

    status = 502


class UpstreamUnavailable(ServiceUnavailable):
    """The service is not available at the moment. Try again later."""


class UpstreamBusy(ServiceUnavailable):
    """The service handles too many requests at the moment. Try again later."""


class TooManyBodies(ServiceUnavailable):
    """Too many request bodies arrive at the moment. Try again later."""


class RevocationsUnknown(ServiceUnavailable):
    """Access tokens cannot be checked for revocation at the moment. Try again later."""


class UpstreamTimedOut(AppError):
    """The service timed out. Check whether the request took effect before you repeat it."""

    status = 504


class ClientDisconnected(Exception):
    """The client disconnected before its response was complete."""


class ResponseInterrupted(Exception):
    """The service failed during its response, so the client's connection must end, too."""
