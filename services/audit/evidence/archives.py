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
from services.audit.evidence.chain import covered_values, hash_of


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
    partial_file, rows = path.with_suffix(".unfinished"), 0
    with gzip.open(partial_file, "wb") as file:
        async for chunk in chunks:
            await asyncio.to_thread(file.writelines, map(archive_line, chunk))
            rows += len(chunk)
    return rows, await asyncio.to_thread(_publish, partial_file, path, rows)


def archive_line(row: Mapping[str, Any]) -> bytes:
    """Return a row as the archive stores it: what its hash covers, and its hashes.

    Raises RowAltered for a row that does not have the hash it carries.
    """
    if hash_of(row) != row["hash"]:
        raise RowAltered(f"row {row['id']}, position {row['position']} of its chain")
    hashes = {name: row[name].hex() for name in ("previous_hash", "hash")}
    return json.dumps({**covered_values(row), **hashes}, ensure_ascii=False).encode() + b"\n"


def _publish(partial_file: Path, path: Path, rows: int) -> bytes:
    """Give a file its name, read it back and return its SHA-256. Raises OSError."""
    with partial_file.open("rb") as file:
        os.fsync(file.fileno())
    partial_file.rename(path)
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
    rows = []
    for piece in pieces:
        numbers = [piece[name] for name in ("organization_id", "first_position", "last_position")]
        hashes = [piece[name].hex() for name in ("previous_hash", "last_hash")]
        rows.append(numbers + hashes)
    return hashlib.sha256(canonical(sorted(rows))).hexdigest()
