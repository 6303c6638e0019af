"""What the gateway itself refuses or reports; every other answer is the service's own."""

from collections.abc import Mapping

from shared.errors import AppError, ServiceUnavailable


class MalformedPath(AppError):
    """The path has empty, dot or encoded segments that could be understood in two ways."""

    status = 400


class MalformedRequest(AppError):
    """The request's head could be understood in two ways, or not at all."""

    status = 400


class UnknownPath(AppError):
    """There is nothing at this path."""

    status = 404


class UnknownMethod(AppError):
    """This method is not offered here."""

    status = 405

    def __init__(self, *, headers: Mapping[str, str] | None = None) -> None:
        # What is carried at all (telemetry.METHODS); a path's own methods its service knows.
        carried = {"Allow": "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"}
        super().__init__(headers=headers or carried)


class BodyTooSlow(AppError):
    """The body did not arrive in time."""

    status = 408


class HeadTooSlow(AppError):
    """The request line and the headers did not arrive in time."""

    status = 408


class TooManyRequests(AppError):
    """More requests than this interface accepts from one client in so short a time."""

    status = 429


class HeadTooLarge(AppError):
    """The request line and the headers are larger than this interface accepts."""

    status = 431


class InternalError(AppError):
    """Something went wrong on our side."""

    status = 500


class UnknownTransferCoding(AppError):
    """Only `chunked` is understood as a transfer coding."""

    status = 501


class UpstreamFailed(AppError):
    """The service broke off before it answered: whether it acted is not known."""

    status = 502


class UpstreamUnavailable(ServiceUnavailable):
    """The service behind this path is not available at the moment; try again."""


class UpstreamBusy(ServiceUnavailable):
    """The service behind this path has all it can do at the moment; try again."""


class TooManyBodies(ServiceUnavailable):
    """More requests' bodies are arriving than can be held at the moment; try again."""


class RevocationsUnknown(ServiceUnavailable):
    """Whether this access token still counts cannot be known at the moment; try again."""


class UpstreamTimedOut(AppError):
    """The service did not answer in time: whether it acted is not known."""

    status = 504


class ClientDisconnected(Exception):
    """The client went away before its answer was complete."""


class ResponseInterrupted(Exception):
    """The service broke off in the middle of its answer; the client's connection must say so."""
