"""Where seals are stored: in a folder, or in a bucket of an object store, by one setting."""

import asyncio
import fcntl
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from itertools import islice
from os import fsync
from pathlib import Path
from typing import Annotated, Protocol, TypeVar
from urllib.parse import unquote, urlsplit

import obstore
import structlog
from anyio import to_thread
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import from_url
from pydantic import AfterValidator

from services.audit.errors import SealsUnreachable
from services.audit.evidence.sealed_heads import Seal, seal_of

T = TypeVar("T")

log = structlog.get_logger(__name__)

BUCKETS = ("s3", "gs", "az")
AT_ONCE = 100
REQUEST_SECONDS = 20.0
_FILES = "seals-*.jws"
_OBJECT = re.compile(r"seal-\d{12}\.jws")


class Overtaken(Exception):
    """The place of a seal is used: another worker, or another program, has written there."""


class SealStore(Protocol):
    """A place for seals, outside the database. Lines are added and read, never changed.

    Every method raises SealsUnreachable if the place does not answer.
    """

    def read(self, after: Seal | None) -> AsyncIterator[Sequence[str]]:
        """Yield lines, oldest first, some at a time: all behind a seal, or every line.

        Lines before it may be among them, and lines that are no seals, which a crash may leave.
        """

    async def add(self, seal: Seal, line: str, after: str) -> None:
        """Store one more seal durably. Raises Overtaken if `after` is not the newest line."""


class NoSeals:
    """The store of a system without seals."""

    async def read(self, after: Seal | None) -> AsyncIterator[Sequence[str]]:
        """Yield nothing."""
        nothing: tuple[list[str], ...] = ()
        for lines in nothing:
            yield lines

    async def add(self, seal: Seal, line: str, after: str) -> None:
        """Raise RuntimeError: there is no place for seals."""
        raise RuntimeError("AUDIT_SEALS is not set: there is no place for seals.")


class FolderOfSeals:
    """A file for each month in a folder, which may be mounted from another machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def read(self, after: Seal | None) -> AsyncIterator[Sequence[str]]:
        """Yield the lines of each file, from the month of the seal on."""
        first = self._file_of(after).name if after else ""
        with _reaching(self._folder):
            for path in await to_thread.run_sync(self._files):
                if path.name < first:
                    continue
                with path.open(encoding="utf-8", errors="replace") as file:
                    while lines := await to_thread.run_sync(lambda f: [*islice(f, AT_ONCE)], file):
                        yield [text for line in lines if (text := line.strip())]

    async def add(self, seal: Seal, line: str, after: str) -> None:
        """Append to the month's file."""
        with _reaching(self._folder):
            await to_thread.run_sync(self._add, seal, line, after)

    def _file_of(self, seal: Seal) -> Path:
        return self._folder / f"seals-{seal.sealed_at:%Y-%m}.jws"

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob(_FILES))

    def _add(self, seal: Seal, line: str, after: str) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "seals.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            newest = next(filter(None, map(_newest_line, reversed(self._files()))), "")
            if newest != after:
                raise Overtaken
            # A line break on both sides, so that an incomplete line of a crash damages no other.
            with self._file_of(seal).open("ab") as file:
                file.write(f"\n{line}\n".encode())
                file.flush()
                fsync(file.fileno())


def _newest_line(path: Path) -> str:
    """Return the last line of a file that is a seal, and read no more of the file than needed."""
    block = 1 << 16
    with path.open("rb") as file:
        size = file.seek(0, 2)
        while True:
            start = max(size - block, 0)
            file.seek(start)
            lines = file.read().decode(errors="replace").split("\n")
            for line in reversed(lines if start == 0 else lines[1:]):
                if line and seal_of(line):
                    return line
            if start == 0:
                return ""
            block *= 4


class BucketOfSeals:
    """An object for each seal, created only if there is none, so that none is overwritten.

    Credentials and endpoint come from the environment: AWS_…, GOOGLE_… or AZURE_….

    The library's blocking calls run in threads of ours. Its asynchronous ones call back from a
    thread of the library, which ends the process with SIGABRT if the interpreter ends meanwhile.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._store = from_url(
            url,
            retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=10)},
        )

    async def read(self, after: Seal | None) -> AsyncIterator[Sequence[str]]:
        """Yield the seals of the objects behind a seal's object; many are fetched at once."""
        offset = _object_of(after) if after else None
        pages = obstore.list(self._store, offset=offset, chunk_size=AT_ONCE)
        with _reaching(self._url):
            while page := await _in_time(lambda: next(pages, None)):
                names = sorted(each["path"] for each in page if _OBJECT.fullmatch(each["path"]))
                yield await asyncio.gather(*map(self._line, names))

    async def _line(self, name: str) -> str:
        body = await _in_time(lambda: obstore.get(self._store, name).bytes())
        return bytes(body).decode(errors="replace")

    async def add(self, seal: Seal, line: str, after: str) -> None:
        """Create the object of the seal's number. Raises Overtaken if it exists."""
        with _reaching(self._url):
            put = partial(obstore.put, mode="create", use_multipart=False)
            try:
                await _in_time(lambda: put(self._store, _object_of(seal), line.encode()))
            except AlreadyExistsError:
                raise Overtaken from None


def _object_of(seal: Seal) -> str:
    return f"seal-{seal.number:012d}.jws"


async def _in_time(request: Callable[[], T]) -> T:
    async with asyncio.timeout(REQUEST_SECONDS):
        return await to_thread.run_sync(request, abandon_on_cancel=True)


@contextmanager
def _reaching(place: Path | str) -> Iterator[None]:
    try:
        yield
    except (BaseError, OSError) as error:
        # Only its first line: the rest are the library's own structures.
        cause = str(error).partition("\n")[0]
        log.error("seals_unreachable", place=str(place), cause=cause)
        raise SealsUnreachable from error


def store_at(place: str | None) -> SealStore:
    """Return the store that the setting names. Raises ValueError if it names none."""
    if place is None:
        return NoSeals()
    url = urlsplit(place)
    if not url.scheme:
        return FolderOfSeals(Path(place))
    if url.scheme == "file" and not url.netloc:
        return FolderOfSeals(Path(unquote(url.path)))
    if url.scheme not in BUCKETS or not url.netloc or "@" in url.netloc or url.query:
        raise ValueError(
            "must be a folder, file:///folder or s3://, gs:// or az://bucket/prefix, without"
            " credentials: set them in the store's own environment variables"
        )
    try:
        return BucketOfSeals(place)
    except BaseError as error:
        raise ValueError(str(error).partition("\n")[0]) from error


def _require_store(place: str) -> str:
    store_at(place)
    return place


SealsPlace = Annotated[str, AfterValidator(_require_store)]
"""Where seals are stored; checked without a request to that place."""
