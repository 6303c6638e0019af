"""What a service's OpenAPI document says beyond what the framework finds out by itself."""

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
    " (`1.0`, `1e0`), which JSON Schema allows. An answer describes the first of what is wrong"
    " and counts all of it. A JSON body that has a key twice in one object is refused with 400."
)
"""What is true of every operation, and has no place in its own description."""

HEADERS: dict[str, dict[str, Any]] = {
    REQUEST_ID_HEADER: {
        "description": "The request's name in logs and in the audit trail: what was sent under"
        " this name, if it is 8 to 128 letters, digits, dots, hyphens and underscores, else new",
        "required": True,
        "schema": {"type": "string"},
    },
    "ETag": {"description": "The version that is shown", "schema": {"type": "string"}},
    "Link": {
        "description": 'The next page, if there is one: `<...>; rel="next"` (RFC 8288)',
        "schema": {"type": "string"},
    },
    "Idempotent-Replayed": {
        "description": "Sent when this is the first answer to the Idempotency-Key again",
        "schema": {"type": "string", "const": "true"},
    },
}
"""Headers of answers, as components of the document."""

_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")


def describe(app: FastAPI) -> None:
    """Make the application's document complete and exact."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(
                title=app.title, version=app.version, routes=app.routes, description=DESCRIPTION
            )
            _add_components(schema)
            _add_request_id(schema)
            _write_bounds_exactly(schema)
            _leave_out_null(schema)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def with_headers(answer: dict[str, Any], *names: str) -> dict[str, Any]:
    """Return the description of an answer that has these of HEADERS too."""
    added = {name: {"$ref": f"#/components/headers/{name}"} for name in names}
    return {**answer, "headers": {**answer.get("headers", {}), **added}} if added else answer


def _add_components(schema: dict[str, Any]) -> None:
    """Add what `with_headers` and `errors.responses` refer to."""
    components = schema.setdefault("components", {})
    components["headers"] = HEADERS
    schemas = components.setdefault("schemas", {})
    for model in (Problem, FieldError, ValidationProblem):
        described = model.model_json_schema(ref_template="#/components/schemas/{model}")
        described.pop("$defs", None)
        schemas[model.__name__] = described


def _add_request_id(schema: dict[str, Any]) -> None:
    """Say of every answer that it carries the request's id."""
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
            whole = {name: int(part[name]) for name in _BOUNDS if name in part}
            part.update({name: min(bound, MAX_ID) for name, bound in whole.items()})
        part = list(part.values())
    if isinstance(part, list):
        for inner in part:
            _write_bounds_exactly(inner)


def _leave_out_null(schema: dict[str, Any]) -> None:
    """Take null from what headers and queries may hold: there it would be the word `null`."""
    for item in schema["paths"].values():
        for operation in item.values():
            for parameter in operation.get("parameters", ()):
                parameter["schema"] = _without_null(parameter["schema"])


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    if len(kinds) != 1:
        return schema
    return {**kinds[0], **{key: value for key, value in schema.items() if key != "anyOf"}}
