"""Checks of events against the shapes that their services publish, for tests."""

from functools import cache
from typing import Any

from jsonschema_rs import Draft202012Validator, ValidationError

from shared.shapes import published_shapes


def require_published_shape(package: str, event: dict[str, Any]) -> None:
    """Raise AssertionError unless an event has exactly the fields of its published shape."""
    try:
        validator_of(package, event["type"]).validate(event)
    except ValidationError as error:
        place = ".".join(str(step) for step in error.instance_path)
        raise AssertionError(f"{event['type']}: {place}: {error.message}") from None


@cache
def validator_of(package: str, kind: str) -> Draft202012Validator:
    """Return the validator of an event type. Raises AssertionError for an unknown one."""
    shape = published_shapes(package).get(kind)
    if shape is None:
        raise AssertionError(f"{kind} has no published shape: carnet event-shapes write")
    return Draft202012Validator(closed_shape(shape), validate_formats=True)


def closed_shape(shape: Any) -> Any:
    """Return a shape that refuses unknown fields; published ones allow them."""
    if isinstance(shape, list):
        return [closed_shape(item) for item in shape]
    if not isinstance(shape, dict):
        return shape
    inner = {name: closed_shape(value) for name, value in shape.items() if name != "properties"}
    if "properties" not in shape:
        return inner
    properties = {name: closed_shape(value) for name, value in shape["properties"].items()}
    return inner | {"properties": properties, "additionalProperties": False}
