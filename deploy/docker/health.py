"""A container's health check: `python -m health [PATH]` asks the process's operations port.

PATH is /health/ready unless given. Exit code 0 when the answer is 200, else 1. The port is that of
the environment, `<SERVICE>_OPERATIONS_PORT`. Little is imported: this starts every ten seconds.
"""

import os
import socket
import sys
from collections.abc import Mapping

_SECONDS = 4.0  # of each wait; readiness itself asks the database for two at most


def operations_port(environment: Mapping[str, str]) -> int:
    """Return the port the process was told to answer its operators on. Raises LookupError."""
    for name, value in environment.items():
        if name.endswith("_OPERATIONS_PORT"):
            return int(value)
    raise LookupError("no variable <SERVICE>_OPERATIONS_PORT is set")


def answer(port: int, path: str) -> bytes:
    """Return the whole answer to a GET. Raises OSError."""
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", port), timeout=_SECONDS) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(4096), b""))


def main(path: str = "/health/ready") -> int:
    """Print what was answered, for `docker inspect`, and return the exit code."""
    try:
        received = answer(operations_port(os.environ), path)
    except (OSError, LookupError, ValueError) as error:
        print(error)
        return 1
    head, _, body = received.partition(b"\r\n\r\n")
    print(body.decode(errors="replace"))
    return 0 if head.split(b" ", 2)[1:2] == [b"200"] else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
