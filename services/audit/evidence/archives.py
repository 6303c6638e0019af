"""The files of the archive: one line of JSON for each audit row, compressed, and their hashes."""

import asyncio
import gzip
import hashlib
import json
import os
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from services.audit.evidence.canonical import canonical
from services.audit.evidence.chain import COVERED, hash_of, instant_text

_PIECE_COLUMNS = (
    "organization_id",
    "first_position",
    "last_position",
    "previous_hash",
    "last_hash",
)


class RowAltered(RuntimeError):
    """A row is not as it was written: it stays in the database, as evidence."""


async def write_archive(
    path: Path, chunks: AsyncIterator[Sequence[Mapping[str, Any]]]
) -> tuple[int, bytes]:
    """Write rows to a file and read it back; return the number of rows and the file's SHA-256.

    The file appears under its name only when it is complete and on the disk. Raises RowAltered for
    a row that does not have the hash it carries, and OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished, rows = path.with_suffix(".unfinished"), 0
    with gzip.open(unfinished, "wb") as file:
        async for chunk in chunks:
            await asyncio.to_thread(_write_lines, file, chunk)
            rows += len(chunk)
    return rows, await asyncio.to_thread(_publish, unfinished, path, rows)


def _write_lines(file: gzip.GzipFile, chunk: Sequence[Mapping[str, Any]]) -> None:
    file.writelines(archive_line(row) for row in chunk)


def archive_line(row: Mapping[str, Any]) -> bytes:
    """Return a row as the archive stores it: what its hash covers, and its hashes.

    Raises RowAltered for a row that does not have the hash it carries.
    """
    if hash_of(row) != row["hash"]:
        raise RowAltered(f"row {row['id']}, position {row['position']} of its chain")
    covered = {name: row[name] for name in COVERED}
    covered["created_at"] = instant_text(row["created_at"])
    hashes = {name: row[name].hex() for name in ("previous_hash", "hash")}
    return json.dumps({**covered, **hashes}, ensure_ascii=False).encode() + b"\n"


def _publish(unfinished: Path, path: Path, rows: int) -> bytes:
    """Give a file its name, read it back and return its SHA-256. Raises OSError."""
    with unfinished.open("rb") as file:
        os.fsync(file.fileno())
    unfinished.rename(path)
    with gzip.open(path, "rb") as lines:
        count = sum(1 for _ in lines)
    if count != rows:
        raise OSError(f"{path} holds {count} rows of {rows}")
    return file_digest(path)


def file_digest(path: Path) -> bytes:
    """Return the SHA-256 of a file. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def pieces_digest(pieces: Iterable[Mapping[str, Any]]) -> str:
    """Return the hash of an archive's pieces, which the trail's own row of the archive holds."""
    rows = sorted([_hexadecimal(piece[name]) for name in _PIECE_COLUMNS] for piece in pieces)
    return hashlib.sha256(canonical(rows)).hexdigest()


def _hexadecimal(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else value
