"""Tells a fault of the surroundings, which passes, from one of the request or the message."""

import socket

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

# Classes 40 (rollback: deadlock, serialization), 53 (resources), 57 (shutdown), 55 (lock timeout).
_PASSING_STATES = ("40", "53", "55", "57", "08")

UNREACHABLE = (DBAPIError, PoolTimeout, OSError, TimeoutError)
"""What a statement raises that does not come back from the database, whatever the reason."""


def is_outage(error: BaseException) -> bool:
    """Say whether the fault lies with database or network."""
    if isinstance(error, DBAPIError):
        state = str(getattr(error.orig, "sqlstate", "") or "")
        return (
            error.connection_invalidated
            or state.startswith(_PASSING_STATES)
            or (isinstance(error, InterfaceError | OperationalError) and not state)
        )
    # Of the system's errors those of connections; a file that is missing stays missing.
    return type(error) is OSError or isinstance(
        error, ConnectionError | TimeoutError | socket.gaierror | PoolTimeout
    )
