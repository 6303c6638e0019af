"""A container's health check: `python -m health` asks the process's operations port.

Exit code 0 when it is ready, 1 when it is not or does not answer. The port is that of the
environment, `<SERVICE>_OPERATIONS_PORT`. Standard library alone: this starts every ten seconds.
"""

import os
import socket
import sys

_SECONDS = 4.0  # of each wait; readiness itself asks the database for two at most


def operations_port(environment: "os._Environ[str] | dict[str, str]") -> int:
    """Return the port the process was told to answer its operators on. Raises LookupError."""
    for name, value in environment.items():
        if name.endswith("_OPERATIONS_PORT"):
            return int(value)
    raise LookupError("no variable <SERVICE>_OPERATIONS_PORT is set")


def answer(port: int) -> bytes:
    """Return the whole answer of `/health/ready`. Raises OSError."""
    request = b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=_SECONDS) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(4096), b""))


def main() -> int:
    """Print what was answered, for `docker inspect`, and return the exit code."""
    try:
        received = answer(operations_port(os.environ))
    except (OSError, LookupError, ValueError) as error:
        print(error)
        return 1
    head, _, body = received.partition(b"\r\n\r\n")
    print(body.decode(errors="replace"))
    return 0 if head.split(b" ", 2)[1:2] == [b"200"] else 1


if __name__ == "__main__":
    sys.exit(main())
