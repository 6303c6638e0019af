"""Files of packages that the gateway serves, read once at the start."""

from collections.abc import Mapping
from importlib.resources.abc import Traversable

HTML = b"text/html; charset=utf-8"
CSS = b"text/css; charset=utf-8"
JAVASCRIPT = b"text/javascript; charset=utf-8"

Files = dict[bytes, tuple[bytes, bytes]]
"""The media type and the content of files by their path."""


def packaged_files(folder: Traversable, prefix: str, media_types: Mapping[str, bytes]) -> Files:
    """Return files of a folder, by names, with paths that begin with a prefix."""
    return {
        f"{prefix}{name}".encode(): (media_type, (folder / name).read_bytes())
        for name, media_type in media_types.items()
    }
