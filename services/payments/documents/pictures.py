"""Pictures of unknown origin, drawn again in a separate process (see `picture_program`).

A thread is not enough: a decoder may hold the interpreter's lock, cannot be ended, and uses the
memory of the service.
"""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from contextlib import suppress

from services.payments.documents import picture_program

DRAW_SECONDS = 5.0
AT_ONCE = 2
MAX_PNG_BYTES = 2 * 1024 * 1024
"""More than an uncompressed picture of DRAWN_SIZE takes as PNG."""
_MAX_COMPLAINT_BYTES = 4096

# Isolated (-I): Python ignores its environment variables and files beside the program.
PROGRAM = (sys.executable, "-I", picture_program.__file__)


class NotAPicture(Exception):
    """The bytes are no picture that can be shown, or drawing it took too much time or memory."""


class PictureStudio:
    """Draws pictures again, a few at once, each in a separate process."""

    def __init__(self, program: Sequence[str] = PROGRAM, seconds: float = DRAW_SECONDS) -> None:
        self._program = program
        self._seconds = seconds
        self._places = asyncio.Semaphore(AT_ONCE)

    async def draw(self, picture: bytes) -> bytes:
        """Return the picture as a small PNG.

        Raises NotAPicture, and OSError when no process can be started. Waits for its turn without a
        limit: the caller has one.
        """
        async with self._places:
            return await self._draw(picture)

    async def _draw(self, picture: bytes) -> bytes:
        # An empty environment: ours holds the service's secrets.
        process = await asyncio.create_subprocess_exec(
            *self._program, stdin=PIPE, stdout=PIPE, stderr=PIPE, env={}
        )
        try:
            async with asyncio.timeout(self._seconds):
                png, complaint = await _exchange(process, picture)
                status = await process.wait()
        except TimeoutError as error:
            raise NotAPicture("drawing it took too long") from error
        finally:
            # Take its status even when it was killed, so that no zombie stays.
            _kill(process)
            await process.wait()
        if status != 0 or not png:
            raise NotAPicture(complaint.decode(errors="replace").strip() or f"status {status}")
        return png


async def _exchange(process: Process, picture: bytes) -> tuple[bytes, bytes]:
    """Send the picture to the process and return what it writes to stdout and stderr.

    Raises NotAPicture when it writes too much.
    """
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    _, png, complaint = await asyncio.gather(
        _feed(process.stdin, picture),
        _read(process, process.stdout, MAX_PNG_BYTES),
        _read(process, process.stderr, _MAX_COMPLAINT_BYTES),
    )
    return png, complaint


async def _feed(stdin: asyncio.StreamWriter, picture: bytes) -> None:
    # A process that ended early does not read to the end; its status has the reason.
    with suppress(BrokenPipeError, ConnectionResetError):
        stdin.write(picture)
        await stdin.drain()
    stdin.close()


async def _read(process: Process, stream: asyncio.StreamReader, most: int) -> bytes:
    """Read a stream to its end; kill the process when it writes more than `most` bytes.

    To the end in any case: a pipe with unread bytes is never closed, and asyncio waits for it.
    """
    read, too_much = bytearray(), False
    while part := await stream.read(65536):
        read += part[: most + 1 - len(read)]
        if len(read) > most and not too_much:
            too_much = True
            _kill(process)
    if too_much:
        raise NotAPicture("the process that draws wrote too much")
    return bytes(read)


def _kill(process: Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()
