"""The committed files: one for each event type, and the AsyncAPI document of all events.

Files of other versions of a published event stay unchanged: messages of a former version can still
be in queues, and a future version is read before it is published.
"""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from deploy.checks.event_shapes.build import all_schemas
from deploy.checks.event_shapes.consumers import all_readers
from deploy.checks.event_shapes.examples import full
from deploy.local.system import CHECKOUT
from shared.asyncapi import document
from shared.shapes import FOLDER, Schema
from shared.version import VERSION

ASYNCAPI = Path("docs", "asyncapi.json")
WIDTH = 100


def folder_of(checkout: Path, service: str) -> Path:
    """Return the folder of a service's shapes in a checkout."""
    return checkout / "services" / service / FOLDER


def read_shapes(checkout: Path) -> dict[str, Schema]:
    """Return the committed shapes of a checkout, by event type."""
    paths = sorted(checkout.glob(f"services/*/{FOLDER}/*.json"))
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths}


def other_versions(checkout: Path, current: Collection[str]) -> dict[str, Schema]:
    """Return the committed shapes of other versions of the current events."""
    names = {_name(kind) for kind in current}
    return {
        kind: shape
        for kind, shape in read_shapes(checkout).items()
        if kind not in current and _name(kind) in names
    }


def _name(kind: str) -> str:
    return kind.rpartition(".v")[0]


def expected(checkout: Path = CHECKOUT) -> dict[Path, str]:
    """Return the files as the code defines them."""
    current = {kind: schema for each in all_schemas().values() for kind, schema in each.items()}
    shapes = current | other_versions(checkout, current)
    texts = {
        folder_of(checkout, kind.split(".")[0]) / f"{kind}.json": _text(schema)
        for kind, schema in shapes.items()
    }
    return texts | {checkout / ASYNCAPI: _text(asyncapi(shapes))}


def asyncapi(shapes: Mapping[str, Schema]) -> dict[str, Any]:
    """Return the AsyncAPI document of every service's events and their readers."""
    readers = all_readers()
    return document(
        "Carnet's events",
        VERSION,
        shapes,
        readers={
            kind: [reader.name for reader in readers if reader.takes(kind)] for kind in shapes
        },
        examples={kind: [full(schema)] for kind, schema in shapes.items()},
    )


def stray(checkout: Path = CHECKOUT) -> list[Path]:
    """Return the files of events that no service publishes."""
    paths = expected(checkout)
    return [path for path in checkout.glob(f"services/*/{FOLDER}/*") if path not in paths]


def write(checkout: Path = CHECKOUT) -> int:
    """Update the files and return how many changed."""
    paths = drift(checkout)
    texts = expected(checkout)
    for path in paths:
        if path in texts:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(texts[path], encoding="utf-8")
        else:
            path.unlink()
    return len(paths)


def drift(checkout: Path = CHECKOUT) -> list[Path]:
    """Return the files that differ from the code, are missing, or are not needed."""
    differing = [
        path
        for path, text in expected(checkout).items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    return sorted(differing + stray(checkout))


def _text(value: Any) -> str:
    return f"{_indented(value, '', 0)}\n"


def _indented(value: Any, margin: str, before: int) -> str:
    """Return JSON in which each value that fits into a line is on one line.

    `before` is the length of the text before the value on its first line.
    """
    line = json.dumps(value, ensure_ascii=False)
    if len(margin) + before + len(line) < WIDTH or not value or not isinstance(value, dict | list):
        return line
    inner = f"{margin}  "
    if isinstance(value, list):
        items, (start, end) = [_indented(item, inner, 0) for item in value], "[]"
    else:
        names = {name: f"{json.dumps(name)}: " for name in value}
        items = [
            names[name] + _indented(item, inner, len(names[name])) for name, item in value.items()
        ]
        start, end = "{}"
    body = f",\n{inner}".join(items)
    return f"{start}\n{inner}{body}\n{margin}{end}"
