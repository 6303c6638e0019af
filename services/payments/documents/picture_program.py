"""A program that draws one picture again: stdin is the picture, stdout a PNG.

It runs in a process with limits of its own, because the picture's origin is unknown and decoders
have faults. It imports nothing of Carnet. Exit status 0: the PNG is on stdout; any
other: there is no picture to show, and the last line of stderr is the reason.
"""

import resource
import sys
from contextlib import suppress
from io import BytesIO

from PIL import Image

MAX_BYTES = 1024 * 1024
MAX_SIDE = 4000
MAX_PIXELS = 8_000_000
DRAWN_SIZE = (900, 360)

CPU_SECONDS = 4
MEMORY_BYTES = 512 * 1024 * 1024
"""Address space: Python with Pillow has 60 MB, the largest picture three copies of 32 MB."""


def limit_resources() -> None:
    """Bound what this process may use; the system ends it when it uses more."""
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    # macOS has no such limit; the limit on pixels protects it.
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))


def draw(picture: bytes) -> bytes:
    """Return a PNG or JPEG as a PNG of our own that fits into DRAWN_SIZE.

    Raises ValueError for too many pixels, and whatever the decoder raises.
    """
    with Image.open(BytesIO(picture), formats=("PNG", "JPEG")) as image:
        width, height = image.size
        if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
            raise ValueError(f"too many pixels: {width} x {height}")
        copy = image.convert("RGBA")
    copy.thumbnail(DRAWN_SIZE)
    png = BytesIO()
    copy.save(png, format="PNG")
    return png.getvalue()


def main() -> None:
    """Read, draw, write."""
    limit_resources()
    # `draw` checks the size in all cases; Pillow only warns of some.
    Image.MAX_IMAGE_PIXELS = None
    try:
        png = draw(sys.stdin.buffer.read(MAX_BYTES + 1))
    except Exception as error:
        sys.exit(f"{type(error).__name__}: {error}"[:200])
    sys.stdout.buffer.write(png)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
