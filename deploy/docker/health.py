"""A container's health check: `python -m health [PATH]` requests a path at the operations port.

PATH is /health/ready by default. The exit code is 0 for status 200, otherwise 1. The environment
has the port, as `<SERVICE>_OPERATIONS_PORT`. Few modules are imported: it runs every ten seconds.
"""

import os
import socket
import sys
from collections.abc import Mapping

_SECONDS = 4.0  # for each wait; the readiness check waits for the database for at most two


def operations_port(environment: Mapping[str, str]) -> int:
    """Return the operations port of the environment. Raises LookupError."""
    for name, value in environment.items():
        if name.endswith("_OPERATIONS_PORT"):
            return int(value)
    raise LookupError("no variable <SERVICE>_OPERATIONS_PORT is set")


def answer(port: int, path: str) -> bytes:
    """Return the whole response to a GET, with its head. Raises OSError."""
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", port), timeout=_SECONDS) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(4096), b""))


def main(path: str = "/health/ready") -> int:
    """Print the response, for `docker inspect`, and return the exit code."""
    try:
        response = answer(operations_port(os.environ), path)
    except (OSError, LookupError, ValueError) as error:
        print(error)
        return 1
    head, _, body = response.partition(b"\r\n\r\n")
    print(body.decode(errors="replace"))
    return 0 if head.split(b" ", 2)[1:2] == [b"200"] else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
