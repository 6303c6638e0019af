"""The fail points, read from the source code, so that every listed name exists."""

import ast
from collections.abc import Iterator
from pathlib import Path

from deploy.local.system import CHECKOUT

_ROOTS = ("shared", "services", "gateway")


def all_points() -> dict[str, str]:
    """Return every fail point's name with its file, relative to the checkout.

    Raises ValueError if a name is not a literal, or is used at two places.
    """
    points: dict[str, str] = {}
    files = [file for root in _ROOTS for file in sorted((CHECKOUT / root).rglob("*.py"))]
    for file in files:
        if "tests" in file.parts:
            continue
        place = str(file.relative_to(CHECKOUT))
        for name in _names(file):
            if name in points:
                raise ValueError(f"{name} is used in {points[name]} and in {place}")
            points[name] = place
    return points


def _names(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_bytes())):
        match node:
            case ast.Call(func=ast.Name(id="failpoint"), args=[ast.Constant(value=str(name))]):
                yield name
            case ast.Call(func=ast.Name(id="failpoint"), lineno=line):
                raise ValueError(f"{file}:{line}: the name of a fail point must be a literal")
