"""Every value that is received has one form: in bodies, paths, queries, answers and events.

pydantic takes "1_0", "１０", " 04 " and true for numbers, numbers for times and "yes" for true,
unless it is told not to. These tests check the models of every route and every reader.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.params import Body
from fastapi.routing import APIRoute, iter_route_contexts
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter

import services.organizations.schemas
import services.vouchers.service.payments_client
import services.vouchers.service.remote_copies
from deploy.checks.event_shapes.consumers import all_readers
from gateway.revocations.revocation_feed import RevocationList
from gateway.routes import Service
from services.identity.schemas.users import OrganizationFacts
from shared.events import Event
from shared.fields import Day, KeyId, PathUuid, QueryFlag, QueryId, RequestBody
from shared.money import Money

# Of these the validator takes other spellings than the one, and other types, unless it is strict.
LOOSE = frozenset({"int", "float", "bool", "decimal", "date", "time", "datetime", "timedelta"})
# Of these it takes several spellings even then.
ALWAYS_LOOSE = frozenset({"uuid", "url", "multi-host-url", "complex", "bytes"})
# Whose validators look at what was written before pydantic does.
CHECKED_BY = ("shared.fields", "shared.money")


def loose(schema: Mapping[str, Any], path: str = "", *, strict: bool = False) -> Iterator[str]:
    """Yield the places in a core schema where a value may be written in several ways."""
    kind = schema["type"]
    if kind == "definitions":
        for inner in (schema["schema"], *schema["definitions"]):
            yield from loose(inner, path, strict=strict)
        return
    if kind == "function-before" and _module(schema) in CHECKED_BY:
        return
    if kind == "model":
        strict = bool(schema.get("config", {}).get("strict"))
        path = f"{path}/{schema['cls'].__name__}"
    here = schema.get("strict", strict)
    if kind in ALWAYS_LOOSE or (kind in LOOSE and not here):
        yield f"{path}: {kind}"
    for name, inner in _inside(schema):
        yield from loose(inner, f"{path}.{name}" if name else path, strict=strict)


def _module(schema: Mapping[str, Any]) -> str:
    module: str = schema["function"]["function"].__module__
    return module


def _inside(schema: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the schemas of which another is made, and the name of the field if they are one."""
    for key, value in schema.items():
        if key in ("metadata", "serialization", "ref", "schema_ref", "cls", "config"):
            continue
        if key == "fields" and isinstance(value, Mapping):
            yield from value.items()
        elif isinstance(value, Mapping) and "type" in value:
            yield "", value
        elif isinstance(value, list):
            for item in value:
                choice = item[0] if isinstance(item, tuple) else item
                if isinstance(choice, Mapping) and "type" in choice:
                    yield "", choice


def schema_of(annotation: Any) -> Mapping[str, Any]:
    schema: Mapping[str, Any] = TypeAdapter(annotation).core_schema
    return schema


def fields_of(dependant: Dependant) -> Iterator[Any]:
    yield from (*dependant.path_params, *dependant.query_params, *dependant.header_params)
    yield from (*dependant.cookie_params, *dependant.body_params)
    for inner in dependant.dependencies:
        yield from fields_of(inner)


def routes_of(app: FastAPI) -> Iterator[APIRoute]:
    for context in iter_route_contexts(app.routes):
        if isinstance(context.route, APIRoute):
            yield context.route


def test_no_route_reads_a_value_loosely(apps: dict[Service, FastAPI]) -> None:
    found, seen = set(), 0
    for service, app in apps.items():
        for route in routes_of(app):
            for field in fields_of(route.dependant):
                seen += 1
                info = field.field_info
                annotation = Annotated[info.annotation, info] if info.metadata else info.annotation
                for place in loose(schema_of(annotation), field.alias):
                    found.add(f"{service}: {route.path}: {place}")
    assert seen > 200
    assert sorted(found) == []


def test_every_body_refuses_unknown_fields(apps: dict[Service, FastAPI]) -> None:
    """But a form of OAuth2 (RFC 6749, section 3.2), and the calls of our own services."""
    passing = set()
    for app in apps.values():
        for route in routes_of(app):
            if route.path.startswith("/internal/") or route.path == "/api/auth/token":
                continue
            for field in route.dependant.body_params:
                passing |= set(_passing(schema_of(field.field_info.annotation)))
    assert passing == set()


def _passing(schema: Mapping[str, Any]) -> Iterator[str]:
    """Yield the models in a core schema that pass over fields they do not know."""
    if schema["type"] == "model" and schema.get("config", {}).get("extra_fields_behavior") != (
        "forbid"
    ):
        yield schema["cls"].__name__
    for _, inner in _inside(schema):
        yield from _passing(inner)


ANSWERS: tuple[type[BaseModel], ...] = (
    OrganizationFacts,
    services.organizations.schemas.OwnerRead,
    services.vouchers.service.remote_copies.OrganizationState,
    services.vouchers.service.remote_copies.ClientState,
    services.vouchers.service.payments_client.Charge,
    services.vouchers.service.payments_client.PaymentState,
    services.vouchers.service.payments_client.RefundState,
    RevocationList,
)
"""What is read of the answers of other services."""


@pytest.mark.parametrize("model", [Event, *ANSWERS], ids=lambda model: str(model.__name__))
def test_no_answer_is_read_loosely(model: type[BaseModel]) -> None:
    assert list(loose(schema_of(model))) == []


def test_no_event_is_read_loosely() -> None:
    models = {
        model
        for reader in all_readers()
        for reading in reader.readings.values()
        for model in (reading.new_values, reading.old_values)
        if model is not None
    }
    assert len(models) > 8
    assert [place for model in models for place in loose(schema_of(model))] == []


class Lax(BaseModel):
    number: int


class Strict(RequestBody):
    number: int
    inside: Lax | None = None
    flag: Annotated[bool, Field(strict=False)] = True
    many: list[dict[str, Annotated[int, Field(strict=False)]]] = Field(default_factory=list)
    checked: Annotated[int, BeforeValidator(lambda value: value), Field(strict=False)] = 1
    after: Annotated[datetime, AfterValidator(lambda value: value), Field(strict=False)] | None
    price: Money
    day: Day


@pytest.mark.parametrize(
    ("annotation", "places"),
    [
        (int, [": int"]),
        (bool | None, [": bool"]),
        (UUID, [": uuid"]),
        (Annotated[int, Field(strict=True)], []),
        (QueryId | None, []),
        (QueryFlag, []),
        (PathUuid, []),
        (dict[KeyId, str], []),
        (dict[int, str], [": int"]),
        (Lax, ["/Lax.number: int"]),
        (
            Strict,
            [
                "/Strict.inside/Lax.number: int",
                "/Strict.flag: bool",
                "/Strict.many: int",
                "/Strict.checked: int",
                "/Strict.after: datetime",
            ],
        ),
    ],
)
def test_what_is_loose_is_seen(annotation: Any, places: list[str]) -> None:
    assert list(loose(schema_of(annotation))) == places


def test_a_choice_is_of_text(apps: dict[Service, FastAPI]) -> None:
    """An enumeration of numbers would take true for 1."""
    kinds = set()
    for app in apps.values():
        for route in routes_of(app):
            for field in fields_of(route.dependant):
                kinds |= set(_enumerations(schema_of(field.field_info.annotation)))
    assert len(kinds) > 3
    assert [kind for kind in kinds if not issubclass(kind, str)] == []


def _enumerations(schema: Mapping[str, Any]) -> Iterator[type[Any]]:
    if schema["type"] == "enum":
        yield schema["cls"]
    for _, inner in _inside(schema):
        yield from _enumerations(inner)


def test_a_model_may_not_be_made_lax_by_its_child() -> None:
    class Child(RequestBody):
        model_config = ConfigDict(title="a child")

        number: int

    assert list(loose(schema_of(Child))) == []


SIGNED = "/api/payments/webhooks/{gateway_name}"
"""Its operator may have added a query to the address, and a webhook that is refused is lost."""

OWN_ROUTES = ("/health", "/asyncapi.json")
"""What every process answers of itself; monitors add parameters to it as they like."""


def operations(apps: dict[Service, FastAPI]) -> Iterator[tuple[FastAPI, APIRoute, str, str]]:
    """Yield every route with its method and a path that leads to it."""
    for app in apps.values():
        for route in routes_of(app):
            if route.path.startswith((*OWN_ROUTES, SIGNED)):
                continue
            path = re.sub(r"\{[^}]*\}", "1", route.path)
            yield from ((app, route, method, path) for method in sorted(route.methods or ()))


async def ask(app: FastAPI, method: str, url: str, **request: Any) -> httpx.Response:
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.request(method, url, **request)


@pytest.mark.anyio
async def test_no_route_passes_over_a_query_parameter(apps: dict[Service, FastAPI]) -> None:
    seen = 0
    for app, _, method, path in operations(apps):
        answer = await ask(app, method, f"{path}?statuss=active&limi=1")
        assert answer.status_code == 422, f"{method} {path}: {answer.text}"
        fields = [error["field"] for error in answer.json()["errors"]]
        assert fields == ["statuss", "limi"], f"{method} {path}: {answer.text}"
        seen += 1
    assert seen > 80


@pytest.mark.anyio
async def test_no_route_takes_a_key_twice(apps: dict[Service, FastAPI]) -> None:
    headers = {"Content-Type": "application/json"}
    content = '{"a": [{"b": {"c": 1, "c": 2}}]}'
    seen = 0
    for app, route, method, path in operations(apps):
        body = route.body_field.field_info if route.body_field else None
        if not isinstance(body, Body) or body.media_type != "application/json":
            continue
        answer = await ask(app, method, path, content=content, headers=headers)
        assert answer.status_code == 400, f"{method} {path}: {answer.text}"
        assert answer.json()["code"] == "duplicate_key"
        assert "a.0.b.c" in answer.json()["detail"]
        seen += 1
    assert seen > 25


def test_no_parameter_is_a_list(apps: dict[Service, FastAPI]) -> None:
    """One that is given twice is refused: a list would have to be let through."""
    for app in apps.values():
        for route in routes_of(app):
            for field in _query_fields(route.dependant):
                assert set(_kinds(schema_of(field.field_info.annotation))).isdisjoint(LISTS)


LISTS = frozenset({"list", "tuple", "set", "frozenset", "dict"})


def _query_fields(dependant: Dependant) -> Iterator[Any]:
    yield from dependant.query_params
    for inner in dependant.dependencies:
        yield from _query_fields(inner)


def _kinds(schema: Mapping[str, Any]) -> Iterator[str]:
    yield schema["type"]
    for _, inner in _inside(schema):
        yield from _kinds(inner)
