"""The fail points there are, read from the source: a name that nobody passes cannot be listed."""

import ast
from collections.abc import Iterator
from pathlib import Path

from deploy.local.system import CHECKOUT

_ROOTS = ("shared", "services", "gateway")


def all_points() -> dict[str, str]:
    """Return every fail point's name with the file, relative to the checkout, that passes it.

    Raises ValueError when a name is not written out, or is passed at two places.
    """
    found: dict[str, str] = {}
    for file in _sources():
        place = str(file.relative_to(CHECKOUT))
        for name in _names(file):
            if name in found:
                raise ValueError(f"{name} is passed in {found[name]} and in {place}")
            found[name] = place
    return found


def _sources() -> Iterator[Path]:
    for root in _ROOTS:
        for file in sorted((CHECKOUT / root).rglob("*.py")):
            if "tests" not in file.parts:
                yield file


def _names(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_bytes())):
        match node:
            case ast.Call(func=ast.Name(id="failpoint"), args=[ast.Constant(value=str(name))]):
                yield name
            case ast.Call(func=ast.Name(id="failpoint"), lineno=line):
                raise ValueError(f"{file}:{line}: a fail point's name is written out")
