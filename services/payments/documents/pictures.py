"""Pictures of unknown origin, drawn again in a separate process (see `picture_program`)."""

from collections.abc import Sequence

from services.payments.documents import picture_program
from shared.limited_programs import LimitedProgram, ProgramFailed, isolated

DRAW_SECONDS = 5.0
AT_ONCE = 2
MAX_PNG_BYTES = 2 * 1024 * 1024
"""More than an uncompressed picture of DRAWN_SIZE takes as PNG."""

PROGRAM = isolated(picture_program.__file__)


class NotAPicture(Exception):
    """The bytes are no picture that can be shown, or drawing it took too much time or memory."""


class PictureStudio:
    """Draws pictures again, a few at once, each in a separate process."""

    def __init__(self, program: Sequence[str] = PROGRAM, seconds: float = DRAW_SECONDS) -> None:
        self._program = LimitedProgram(
            program, seconds=seconds, output_bytes=MAX_PNG_BYTES, at_once=AT_ONCE
        )

    async def draw(self, picture: bytes) -> bytes:
        """Return the picture as a small PNG.

        Raises NotAPicture, and OSError when no process can be started. Waits for its turn without a
        limit: the caller has one.
        """
        try:
            return await self._program.run(picture)
        except ProgramFailed as error:
            raise NotAPicture(f"drawing it failed: {error}") from error
