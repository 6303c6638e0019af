"""Secrets that are created once and stored in a private file of the data folder."""

import json
from collections.abc import Callable
from pathlib import Path

from deploy.local.errors import StartError
from deploy.local.files import write_private


class SecretStore:
    """Named secrets in one JSON file of mode 0600. Raises StartError when it is unreadable."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._values: dict[str, str] = {}
        try:
            if file.exists():
                values = json.loads(file.read_text())
                self._values = {str(name): str(value) for name, value in values.items()}
        except (OSError, ValueError, AttributeError) as error:
            raise StartError(
                f"{file} cannot be read: {error}.",
                "Restore it, or move the whole data folder away to start again without data.",
            ) from error

    def get(self, name: str, create: Callable[[], str]) -> str:
        """Return a secret; create and store it if there is none of this name."""
        if name not in self._values:
            self._values[name] = create()
            write_private(self._file, json.dumps(self._values, indent=2))
        return self._values[name]
