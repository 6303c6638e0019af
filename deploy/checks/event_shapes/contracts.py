"""Both sides of the contract: what readers need is promised, and no promise is taken back.

Whether one schema takes all that another allows is decided by jsonschema-rs.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping

from jsonschema_rs import Draft202012, canonical, canonicalize
from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from deploy.checks.event_shapes.consumers import Reader
from deploy.checks.event_shapes.json_types import MONEY
from shared.shapes import Reading, Schema

Shapes = Mapping[str, Schema]


def takes_all(reader: Schema, published: Schema) -> bool:
    """Say whether it is proven that a reader's schema takes everything that another allows."""
    wide, narrow = (canonicalize(schema, draft=Draft202012) for schema in (reader, published))
    return wide.covers(narrow) is canonical.Containment.YES


def faults_of(reader: Reader, shapes: Shapes) -> list[str]:
    """Return what a reader expects and nobody promises."""
    faults = (*_routing(reader, shapes), *_reading(reader, shapes))
    return [f"{reader.name}: {fault}" for fault in faults]


def _routing(reader: Reader, shapes: Shapes) -> Iterator[str]:
    for binding in reader.bindings:
        if not any(Reader("", (binding,), None, {}).takes(kind) for kind in shapes):
            yield f"nobody publishes {binding}"
    taken = {kind for kind in shapes if reader.takes(kind)}
    for kind in sorted(set(reader.readings) - taken):
        yield f"{kind} is read, but never comes"
    if reader.handled is None:
        return
    for kind in sorted(reader.handled - taken):
        yield f"{kind} is handled, but never comes"
    for kind in sorted(taken - reader.handled):
        yield f"{kind} comes, but has no handler"
    for kind in sorted(reader.handled - set(reader.readings)):
        yield f"{kind} is handled, but READINGS does not say what is read of it"


def _reading(reader: Reader, shapes: Shapes) -> Iterator[str]:
    together: dict[tuple[type[BaseModel], str], dict[str, Reading]] = defaultdict(dict)
    for kind in sorted(set(reader.readings) & set(shapes)):
        reading = reader.readings[kind]
        sides = ((reading.new_values, "new_values"), (reading.old_values, "old_values"))
        for model, side in sides:
            if model is not None:
                together[model, side][kind] = reading
    for (model, side), readings in together.items():
        promised = {kind: _values(shapes[kind], side) for kind in readings}
        for fault in _expectations(model, readings, promised):
            yield f"{model.__name__} of {side}: {fault}"


def _values(shape: Schema, side: str) -> Schema:
    values: Schema = shape["properties"]["data"]["properties"][side]
    return values


def _expectations(
    model: type[BaseModel], readings: Mapping[str, Reading], promised: Shapes
) -> Iterator[str]:
    """Compare a model with what the events that it reads promise."""
    expected = model.model_json_schema(schema_generator=_AsEventsHoldIt)
    for name, schema in expected["properties"].items():
        kinds = [kind for kind, reading in readings.items() if name not in reading.from_envelope]
        told = [kind for kind in kinds if name in promised[kind]["properties"]]
        if kinds and not told:
            yield f"{name} is in no event: {', '.join(kinds)}"
        for kind in kinds:
            sure = name in promised[kind]["required"]
            if name in expected.get("required", ()) and not readings[kind].partial and not sure:
                yield f"{name} is not sure to be in {kind}"
        wanted = {**schema, "$defs": expected.get("$defs", {})}
        for kind in told:
            if not takes_all(wanted, promised[kind]["properties"][name]):
                yield f"{name} of {kind} may have values that are not understood"


class _AsEventsHoldIt(GenerateJsonSchema):
    """Reads decimals as events write them; two patterns for money could not be compared."""

    def decimal_schema(self, schema: core_schema.DecimalSchema) -> JsonSchemaValue:
        return dict(MONEY)


def breaking_changes(released: Shapes, present: Shapes) -> list[str]:
    """Return what a reader of the released shapes would miss in the present ones.

    Only additions pass. The values of a property may not grow, for a reader would meet what it
    does not know; nor shrink, for older messages wait in queues and stay in the audit trail.
    """
    gone = [f"{kind} is not published any more" for kind in released if kind not in present]
    changed = [
        f"{kind}: {fault}"
        for kind, shape in released.items()
        if kind in present
        for fault in _broken(shape, present[kind], "")
    ]
    return gone + changed


def _broken(before: Schema, after: Schema, path: str) -> Iterator[str]:
    """Yield the broken promises of two schemas of one place; objects are compared by property."""
    if "properties" not in before or "properties" not in after:
        yield from _changed_values(before, after, path)
        return
    for name, schema in before["properties"].items():
        place = f"{path}.{name}" if path else name
        if name not in after["properties"]:
            yield f"{place} is gone"
        else:
            yield from _broken(schema, after["properties"][name], place)
            if name in before["required"] and name not in after["required"]:
                yield f"{place} is not sure to be there any more"


def _changed_values(before: Schema, after: Schema, path: str) -> Iterator[str]:
    became = f"{before} became {after}"
    if not takes_all(before, after):
        yield f"{path} may have values that it never had: {became}"
    elif not takes_all(after, before):
        yield f"{path} refuses values that older messages have: {became}"
