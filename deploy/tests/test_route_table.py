"""The gateway's table against what the services really offer: nothing missing, nothing more."""

from collections.abc import Iterator
from inspect import isasyncgenfunction, iscoroutinefunction
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts

from gateway.documents.openapi_merge import Document, merge, route_of
from gateway.routes import ROUTES, Access, Quota, Route, RouteTable, Service
from shared.sessions import reader_of

FIND = RouteTable().find

# What services answer and the gateway deliberately never asks them for on a client's behalf.
INTERNAL = ("/internal/", "/health", "/openapi.json", "/asyncapi.json")
# Where an access token is optional: a refresh token is enough to sign out, and a webhook has none.
WEBHOOKS = "/api/payments/webhooks/{gateway_name}"
TOKEN_OPTIONAL = {"/api/auth/logout", WEBHOOKS, f"{WEBHOOKS}/connect"}

# Decision 0040 states why these are not one statement of a reader.
OTHER_READS = {
    "/.well-known/jwks.json",
    "/api/auth/second-factor",
    "/api/calendar-feeds",
    "/api/calendars/{token}.ics",
    "/api/admin/audit-logs",
    "/api/admin/audit-logs/export",
    "/api/admin/audit-logs/verify",
    "/api/organizations/{organization_id}/audit-logs",
    "/api/organizations/{organization_id}/audit-logs/export",
    "/api/organizations/{organization_id}/audit-logs/verify",
    "/api/organizations/{organization_id}/booking-settings",
    "/api/organizations/{organization_id}/classes",
    "/api/organizations/{organization_id}/classes/{class_id}",
    "/api/organizations/{organization_id}/closures",
    "/api/organizations/{organization_id}/invoices/{invoice_id}",
    "/api/organizations/{organization_id}/payment-account",
    "/api/organizations/{organization_id}/payments/totals",
    "/api/organizations/{organization_id}/reservations",
    "/api/organizations/{organization_id}/resources",
    "/api/organizations/{organization_id}/resources/{resource_id}",
    "/api/organizations/{organization_id}/resources/{resource_id}/busy-calendar",
    "/api/organizations/{organization_id}/resources/{resource_id}/calendar",
    "/api/organizations/{organization_id}/resources/{resource_id}/working-hours",
    "/api/organizations/{organization_id}/session-series",
    "/api/organizations/{organization_id}/session-series/{series_id}",
    "/api/organizations/{organization_id}/sessions",
    "/api/payments/methods",
    "/api/payments/{payment_id}/credit-notes/{number}",
    "/api/payments/{payment_id}/invoice",
    "/api/reservations/my",
    "/api/reservations/{reservation_id}",
    "/api/reservations/{reservation_id}/cancellation",
    "/api/sessions/{class_session_id}",
    "/api/voucher-types/{voucher_type_id}/slots",
    "/api/vouchers/my",
    "/api/vouchers/{voucher_id}/reservations",
    "/api/vouchers/{voucher_id}/slot-days",
    "/api/vouchers/{voucher_id}/slots",
}


def is_async(call: Any) -> bool:
    ways = (call, type(call).__call__)
    return any(iscoroutinefunction(way) or isasyncgenfunction(way) for way in ways)


def calls(dependant: Dependant) -> Iterator[Dependant]:
    """An endpoint with everything it asks for, and what that asks for."""
    yield dependant
    for inner in dependant.dependencies:
        yield from calls(inner)


def documented(apps: dict[Service, FastAPI]) -> Iterator[tuple[Service, str, Document]]:
    """Every service, path and path item of the OpenAPI documents."""
    for service, app in apps.items():
        for path, item in app.openapi()["paths"].items():
            yield service, path, item


def routed(path: str) -> Route:
    route = route_of(path, FIND)
    assert route is not None, f"{path} is documented and not routed"
    return route


def test_every_documented_path_leads_to_its_service(apps: dict[Service, FastAPI]) -> None:
    for service, path, _ in documented(apps):
        assert routed(path).service is service, path


def test_every_row_leads_to_something(apps: dict[Service, FastAPI]) -> None:
    used = {routed(path).template for _, path, _ in documented(apps)}
    assert [route.template for route in ROUTES if route.template not in used] == []


def test_what_is_not_documented_is_internal_and_not_routed(apps: dict[Service, FastAPI]) -> None:
    for app in apps.values():
        public = set(app.openapi()["paths"])
        served = {str(context.path) for context in iter_route_contexts(app.routes)}
        hidden = served - public
        assert hidden
        for path in hidden:
            assert path.startswith(INTERNAL), f"{path} is neither documented nor internal"
            assert route_of(path, FIND) is None, f"{path} is internal and routed"


def test_no_request_waits_for_a_thread(apps: dict[Service, FastAPI]) -> None:
    """A dependency that is no coroutine is run in a thread, for every request anew."""
    asked = [
        call
        for app in apps.values()
        for context in iter_route_contexts(app.routes)
        if isinstance(context.route, APIRoute)
        for call in calls(context.route.dependant)
    ]
    assert len(asked) > 100
    threaded = {str(each.call) for each in asked if not is_async(each.call)}
    assert not threaded


def test_every_other_read_has_a_reason(apps: dict[Service, FastAPI]) -> None:
    others = {
        str(context.path)
        for app in apps.values()
        for context in iter_route_contexts(app.routes)
        if isinstance(context.route, APIRoute) and context.route.methods == {"GET"}
        if reader_of not in [each.call for each in calls(context.route.dependant)]
    }
    assert {path for path in others if not path.startswith(INTERNAL)} == OTHER_READS


def test_no_two_services_answer_one_path(apps: dict[Service, FastAPI]) -> None:
    paths = [path for _, path, _ in documented(apps)]
    assert len(paths) == len(set(paths))


def test_the_gateway_demands_a_token_where_the_service_does(apps: dict[Service, FastAPI]) -> None:
    for _, path, item in documented(apps):
        for method, operation in item.items():
            demanded = bool(operation.get("security")) and path not in TOKEN_OPTIONAL
            protected = routed(path).access is Access.PROTECTED
            assert protected == demanded, f"{method} {path}"


def test_every_protected_post_honours_an_idempotency_key(apps: dict[Service, FastAPI]) -> None:
    """The gateway sends such a request once more when an instance breaks off."""
    for _, path, item in documented(apps):
        if "post" in item and routed(path).access is Access.PROTECTED:
            parameters = item["post"].get("parameters", [])
            assert "Idempotency-Key" in [each["name"] for each in parameters], path


def test_passwords_are_guessed_at_in_the_strict_class(apps: dict[Service, FastAPI]) -> None:
    strict = {path for _, path, _ in documented(apps) if routed(path).quota is Quota.SIGN_IN}
    assert strict == {
        "/api/auth/login",
        "/api/auth/login/second-factor",
        "/api/auth/login/second-factor/setup",
        "/api/auth/token",
        "/api/auth/register",
        "/api/auth/password-reset",
        "/api/auth/password-reset/confirm",
        "/api/auth/address/confirm",
        "/api/auth/invitation/accept",
        "/api/auth/links/renew",
    }


def test_the_whole_document_fits_together(apps: dict[Service, FastAPI]) -> None:
    documents = {service: app.openapi() for service, app in apps.items()}
    merged = merge(documents, FIND, version="1")
    assert set(merged["paths"]) == {path for _, path, _ in documented(apps)}
    for path in TOKEN_OPTIONAL:
        assert {} in merged["paths"][path]["post"]["security"]
    schemas = merged["components"]["schemas"]
    problems = {name for name in schemas if name.endswith("Problem")}
    assert problems == {"Problem", "ValidationProblem"}
    ids = [
        operation["operationId"] for item in merged["paths"].values() for operation in item.values()
    ]
    assert len(ids) == len(set(ids))
