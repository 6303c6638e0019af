"""Free TCP ports on 127.0.0.1, the same ones again at the next start while they are free."""

import json
import random
import socket
from pathlib import Path

from deploy.local.files import write_private

# Below the range from which Linux takes the ports of outgoing connections (32768 and up):
# a port found free here is not taken by a client before its server listens.
_CANDIDATES = range(20_000, 32_000)


def is_free(port: int) -> bool:
    """Tell whether a server could listen on 127.0.0.1:`port` now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class Ports:
    """The ports of one data folder, by name, remembered in a file."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._remembered = _read(file)
        self._given: dict[str, int] = {}

    def choose(self, name: str) -> int:
        """Return a free port for `name`: the one it had before if it can still be had."""
        port = self._remembered.get(name)
        if port is None or port in self._given.values() or not is_free(port):
            port = self._find()
        self._given[name] = port
        self._remembered[name] = port
        write_private(self._file, json.dumps(self._remembered, indent=2))
        return port

    def _find(self) -> int:
        taken = {*self._given.values(), *self._remembered.values()}
        while True:
            port = random.choice(_CANDIDATES)  # noqa: S311 - a port, not a secret
            if port not in taken and is_free(port):
                return port


def _read(file: Path) -> dict[str, int]:
    try:
        stored = json.loads(file.read_text())
        return {str(name): int(port) for name, port in stored.items()}
    except (OSError, ValueError, AttributeError):
        return {}
