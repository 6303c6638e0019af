"""Both sides of the event contracts: readers need only what is promised, and promises stay.

jsonschema-rs decides whether one schema accepts everything that another one allows.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping

from jsonschema_rs import Draft202012, canonical, canonicalize
from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from deploy.checks.event_shapes.consumers import Reader
from deploy.checks.event_shapes.json_types import MONEY
from shared.shapes import EventReading, Schema

Shapes = Mapping[str, Schema]


def takes_all(reader: Schema, published: Schema) -> bool:
    """Return whether a reader's schema provably accepts everything that another one allows."""
    wide, narrow = (canonicalize(schema, draft=Draft202012) for schema in (reader, published))
    return wide.covers(narrow) is canonical.Containment.YES


def faults_of(reader: Reader, shapes: Shapes) -> list[str]:
    """Return what a reader expects and no publisher promises."""
    faults = (*_routing(reader, shapes), *_reading(reader, shapes))
    return [f"{reader.name}: {fault}" for fault in faults]


def _routing(reader: Reader, shapes: Shapes) -> Iterator[str]:
    for binding in reader.bindings:
        if not any(Reader("", (binding,), None, {}).takes(kind) for kind in shapes):
            yield f"no service publishes {binding}"
    kinds = {kind for kind in shapes if reader.takes(kind)}
    for kind in sorted(set(reader.readings) - kinds):
        yield f"{kind} is read, but never received"
    if reader.handled is None:
        return
    for kind in sorted(reader.handled - kinds):
        yield f"{kind} is handled, but never received"
    for kind in sorted(kinds - reader.handled):
        yield f"{kind} is received, but has no handler"
    for kind in sorted(reader.handled - set(reader.readings)):
        yield f"{kind} is handled, but READINGS does not describe what is read of it"


def _reading(reader: Reader, shapes: Shapes) -> Iterator[str]:
    together: dict[tuple[type[BaseModel], str], dict[str, EventReading]] = defaultdict(dict)
    for kind in sorted(set(reader.readings) & set(shapes)):
        reading = reader.readings[kind]
        sides = ((reading.new_values, "new_values"), (reading.old_values, "old_values"))
        for model, side in sides:
            if model is not None:
                together[model, side][kind] = reading
    for (model, side), readings in together.items():
        values = {kind: shapes[kind]["properties"]["data"]["properties"][side] for kind in readings}
        for fault in _expectations(model, readings, values):
            yield f"{model.__name__} of {side}: {fault}"


def _expectations(
    model: type[BaseModel], readings: Mapping[str, EventReading], values: Shapes
) -> Iterator[str]:
    """Compare a model with what the events that it reads promise."""
    expected = model.model_json_schema(schema_generator=_AsEventsHoldIt)
    for name, schema in expected["properties"].items():
        kinds = [kind for kind, reading in readings.items() if name not in reading.from_envelope]
        having = [kind for kind in kinds if name in values[kind]["properties"]]
        if kinds and not having:
            yield f"{name} is in no event: {', '.join(kinds)}"
        for kind in kinds:
            is_promised = name in values[kind]["required"]
            if name in expected.get("required", ()) and not (readings[kind].partial or is_promised):
                yield f"{name} is not promised by {kind}"
        reader = {**schema, "$defs": expected.get("$defs", {})}
        for kind in having:
            if not takes_all(reader, values[kind]["properties"][name]):
                yield f"{name} of {kind} may have values that the reader does not accept"


class _AsEventsHoldIt(GenerateJsonSchema):
    """Describes decimals as events do: two patterns for money could not be compared."""

    def decimal_schema(self, schema: core_schema.DecimalSchema) -> JsonSchemaValue:
        return dict(MONEY)


def breaking_changes(former: Shapes, present: Shapes) -> list[str]:
    """Return what a reader of the former shapes would miss in the present ones.

    Only additions are allowed. The values of a property may not grow, because a reader would
    receive values that it does not know. They may not shrink either, because older messages are
    still in queues and in the audit trail.
    """
    removals = [f"{kind} is not published any more" for kind in former if kind not in present]
    return removals + [
        f"{kind}: {fault}"
        for kind, shape in former.items()
        if kind in present
        for fault in _differences(shape, present[kind], "")
    ]


def _differences(before: Schema, after: Schema, path: str) -> Iterator[str]:
    """Yield the broken promises between two schemas; objects are compared by property."""
    if "properties" not in before or "properties" not in after:
        if not takes_all(before, after):
            yield f"{path} may have new values: {before} became {after}"
        elif not takes_all(after, before):
            yield f"{path} refuses values of older messages: {before} became {after}"
        return
    for name, schema in before["properties"].items():
        place = f"{path}.{name}" if path else name
        if name not in after["properties"]:
            yield f"{place} was removed"
        else:
            yield from _differences(schema, after["properties"][name], place)
            if name in before["required"] and name not in after["required"]:
                yield f"{place} is not required any more"
