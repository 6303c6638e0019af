"""The parts of a service's OpenAPI document that the framework does not generate."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from shared.context import REQUEST_ID_HEADER
from shared.errors import FieldError, Problem, ValidationProblem
from shared.fields import MAX_ID

DESCRIPTION = (
    "Requests are read strictly. Fields and query parameters that an operation does not name, query"
    ' parameters that are given twice, and values of another type than the documented one (`"1"`'
    " or `true` for a number) are refused with 422. So is an integer with a fraction or an exponent"
    " (`1.0`, `1e0`), which JSON Schema allows. The response describes the first errors"
    " and counts all of them. A JSON body that has a key twice in one object is refused with 400."
)
"""Rules that apply to every operation."""

HEADERS: dict[str, dict[str, Any]] = {
    REQUEST_ID_HEADER: {
        "description": "The request's id in logs and in the audit trail: the id that the client"
        " sent if it has 8 to 128 letters, digits, dots, hyphens and underscores, else a new one",
        "required": True,
        "schema": {"type": "string"},
    },
    "ETag": {"description": "The version of the resource", "schema": {"type": "string"}},
    "Link": {
        "description": 'The next page, if there is one: `<...>; rel="next"` (RFC 8288)',
        "schema": {"type": "string"},
    },
    "Idempotent-Replayed": {
        "description": "Present when this is the stored first response to the Idempotency-Key",
        "schema": {"type": "string", "const": "true"},
    },
}
"""Headers of responses, as components of the document."""

_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")


def describe(app: FastAPI) -> None:
    """Replace the application's `openapi` by one whose document is complete and exact."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(
                title=app.title, version=app.version, routes=app.routes, description=DESCRIPTION
            )
            add_components(schema)
            describe_request_id(schema)
            _write_bounds_exactly(schema)
            remove_null(schema)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def with_headers(answer: dict[str, Any], *names: str) -> dict[str, Any]:
    """Return the description of a response with further HEADERS."""
    headers = {name: {"$ref": f"#/components/headers/{name}"} for name in names}
    return {**answer, "headers": {**answer.get("headers", {}), **headers}} if headers else answer


def add_components(schema: dict[str, Any]) -> None:
    """Add the components to which `with_headers` and `errors.responses` refer."""
    components = schema.setdefault("components", {})
    components["headers"] = HEADERS
    schemas = components.setdefault("schemas", {})
    for model in (Problem, FieldError, ValidationProblem):
        description = model.model_json_schema(ref_template="#/components/schemas/{model}")
        description.pop("$defs", None)
        schemas[model.__name__] = description


def describe_request_id(schema: dict[str, Any]) -> None:
    """Add the header with the request's id to every response."""
    for item in schema["paths"].values():
        for operation in item.values():
            operation["responses"] = {
                status: with_headers(answer, REQUEST_ID_HEADER)
                for status, answer in operation["responses"].items()
            }


def _write_bounds_exactly(part: Any) -> None:
    """Write the bounds of integers as integers: as floats the largest id is one too large."""
    if isinstance(part, dict):
        if part.get("type") == "integer":
            bounds = {name: int(part[name]) for name in _BOUNDS if name in part}
            part.update({name: min(limit, MAX_ID) for name, limit in bounds.items()})
        part = list(part.values())
    if isinstance(part, list):
        for inner in part:
            _write_bounds_exactly(inner)


def remove_null(schema: dict[str, Any]) -> None:
    """Remove null from the types of parameters: in a header or query it would be a text."""
    for item in schema["paths"].values():
        for operation in item.values():
            for parameter in operation.get("parameters", ()):
                choices = parameter["schema"].get("anyOf", ())
                kinds = [kind for kind in choices if kind != {"type": "null"}]
                if len(kinds) == 1:
                    rest = {k: v for k, v in parameter["schema"].items() if k != "anyOf"}
                    parameter["schema"] = {**kinds[0], **rest}
