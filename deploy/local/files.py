"""Files of a data folder: private, and always complete."""

import os
from pathlib import Path


def write_private(file: Path, text: str) -> None:
    """Replace a file with `text` in one step; only its owner can read and write it."""
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as out:
        out.write(text)
    beside.replace(file)
