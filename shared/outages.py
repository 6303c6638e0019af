"""Errors of an outage, which end by themselves, as opposed to errors of a request or a message."""

import socket

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

# Classes 40 (rollback: deadlock, serialization), 53 (resources), 57 (shutdown), 55 (lock timeout).
_OUTAGE_STATES = ("40", "53", "55", "57", "08")

UNREACHABLE = (DBAPIError, PoolTimeout, OSError, TimeoutError)
"""The errors of a statement that cannot be executed, for any reason."""


def is_outage(error: BaseException) -> bool:
    """Return whether an error is an outage of the database or the network."""
    if isinstance(error, DBAPIError):
        state = str(getattr(error.orig, "sqlstate", "") or "")
        return (
            error.connection_invalidated
            or state.startswith(_OUTAGE_STATES)
            or (isinstance(error, InterfaceError | OperationalError) and not state)
        )
    # Of the operating system's errors only those of connections: not a missing file, for instance.
    return type(error) is OSError or isinstance(
        error, ConnectionError | TimeoutError | socket.gaierror | PoolTimeout
    )
