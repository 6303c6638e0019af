"""Free TCP ports on 127.0.0.1. The next start uses the same ones if they are still free."""

import contextlib
import json
import random
import socket
from pathlib import Path

from deploy.local.files import write_private

# Below the range that Linux uses for outgoing connections (32768 and up): no client can take a
# free port before its server listens.
_CANDIDATES = range(20_000, 32_000)


def is_free(port: int) -> bool:
    """Return whether a server could listen on 127.0.0.1:`port` now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class Ports:
    """The ports of one data folder by name, stored in a file."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._stored: dict[str, int] = {}
        self._in_use: set[int] = set()
        with contextlib.suppress(OSError, ValueError, AttributeError):
            ports = json.loads(file.read_text())
            self._stored = {str(name): int(port) for name, port in ports.items()}

    def choose(self, name: str) -> int:
        """Return a free port for `name`: the stored one if it is still free."""
        port = self._stored.get(name)
        if port is None or port in self._in_use or not is_free(port):
            others = {*self._in_use, *self._stored.values()}
            candidates = random.sample(_CANDIDATES, len(_CANDIDATES))
            port = next(each for each in candidates if each not in others and is_free(each))
        self._in_use.add(port)
        self._stored[name] = port
        write_private(self._file, json.dumps(self._stored, indent=2))
        return port
