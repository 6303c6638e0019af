"""Programs that process bytes of unknown origin, in processes with limits.

A thread is not enough: a parser may hold the interpreter's lock, cannot be ended, and uses the
memory of the service.
"""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from contextlib import suppress

_MOST_COMPLAINT_BYTES = 4096


class ProgramFailed(Exception):
    """The program failed, took too long or wrote too much; the text states which."""


def isolated(path: str | None) -> tuple[str, ...]:
    """Return the command of a Python program.

    Isolated (-I): Python ignores its environment variables and files beside the program.
    """
    assert path is not None
    return (sys.executable, "-I", path)


class LimitedProgram:
    """Runs a program, a few times at once, each for some seconds at most.

    The program reads its input from stdin and writes its result, of at most `output_bytes`, to
    stdout. With another exit status than 0 the last line of stderr is the reason.
    """

    def __init__(
        self, command: Sequence[str], *, seconds: float, output_bytes: int, at_once: int
    ) -> None:
        self._command = command
        self._seconds = seconds
        self._output_bytes = output_bytes
        self._places = asyncio.Semaphore(at_once)

    async def run(self, data: bytes, *arguments: str) -> bytes:
        """Return what the program makes of some bytes.

        Raises ProgramFailed, and OSError when no process can be started. Waits for its turn without
        a limit: the caller has one.
        """
        async with self._places:
            return await self._run(data, arguments)

    async def _run(self, data: bytes, arguments: Sequence[str]) -> bytes:
        # An empty environment: ours holds the service's secrets.
        process = await asyncio.create_subprocess_exec(
            *self._command, *arguments, stdin=PIPE, stdout=PIPE, stderr=PIPE, env={}
        )
        try:
            async with asyncio.timeout(self._seconds):
                result, complaint = await self._exchange(process, data)
                status = await process.wait()
        except TimeoutError as error:
            raise ProgramFailed("it took too long") from error
        finally:
            # Take its status even when it was killed, so that no zombie stays.
            _kill(process)
            await process.wait()
        if status != 0 or not result:
            raise ProgramFailed(complaint.decode(errors="replace").strip() or f"status {status}")
        return result

    async def _exchange(self, process: Process, data: bytes) -> tuple[bytes, bytes]:
        """Send the data to the process and return what it writes to stdout and stderr.

        Raises ProgramFailed when it writes too much.
        """
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        _, result, complaint = await asyncio.gather(
            _feed(process.stdin, data),
            _read(process, process.stdout, self._output_bytes),
            _read(process, process.stderr, _MOST_COMPLAINT_BYTES),
        )
        return result, complaint


async def _feed(stdin: asyncio.StreamWriter, data: bytes) -> None:
    # A process that ended early does not read to the end; its status has the reason.
    with suppress(BrokenPipeError, ConnectionResetError):
        stdin.write(data)
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
        raise ProgramFailed("it wrote too much")
    return bytes(read)


def _kill(process: Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()
