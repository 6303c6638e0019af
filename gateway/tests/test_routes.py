"""The path table: each path to its service, and no way around it."""

import pytest

from gateway.errors import MalformedPath
from gateway.routes import Access, RouteTable, Service, TimeoutClass

TABLE = RouteTable()

SERVICES = {
    "/.well-known/jwks.json": Service.IDENTITY,
    "/api/auth/login": Service.IDENTITY,
    "/api/auth/me": Service.IDENTITY,
    "/api/admin/users": Service.IDENTITY,
    "/api/admin/users/7": Service.IDENTITY,
    "/api/admin/users/7/approve": Service.IDENTITY,
    "/api/organizations/3/users": Service.IDENTITY,
    "/api/organizations/3/users/7/permissions/all": Service.IDENTITY,
    "/api/admin/organizations": Service.ORGANIZATIONS,
    "/api/admin/organizations/3": Service.ORGANIZATIONS,
    "/api/organizations/3": Service.ORGANIZATIONS,
    "/api/organizations/users": Service.ORGANIZATIONS,
    "/api/organizations/3/voucher-types": Service.VOUCHERS,
    "/api/organizations/3/voucher-types/9/deactivate": Service.VOUCHERS,
    "/api/organizations/3/vouchers": Service.VOUCHERS,
    "/api/voucher-types/available": Service.VOUCHERS,
    "/api/vouchers/purchase": Service.VOUCHERS,
    "/api/vouchers/12/redemptions/4/reverse": Service.VOUCHERS,
    "/api/vouchers/12/refund-quote": Service.VOUCHERS,
    "/api/vouchers/12/transfers": Service.VOUCHERS,
    "/api/vouchers/12/refunds": Service.VOUCHERS,
    "/api/payments/my": Service.PAYMENTS,
    "/api/payments/5/invoice": Service.PAYMENTS,
    "/api/payments/webhooks/stripe": Service.PAYMENTS,
    "/api/payments/webhooks/stripe/connect": Service.PAYMENTS,
    "/api/organizations/3/payments/8/mark-paid": Service.PAYMENTS,
    "/api/payments/methods": Service.PAYMENTS,
    "/api/organizations/3/payment-account": Service.PAYMENTS,
    "/api/organizations/3/invoices": Service.PAYMENTS,
    "/api/organizations/3/payouts": Service.PAYMENTS,
    "/api/organizations/3/payouts/5": Service.PAYMENTS,
    "/api/organizations/3/payouts/statement": Service.PAYMENTS,
    "/api/organizations/3/platform-fee": Service.PAYMENTS,
    "/api/admin/audit-logs": Service.AUDIT,
    "/api/organizations/3/audit-logs": Service.AUDIT,
    "/api/organizations/3/audit-logs/export": Service.AUDIT,
}


@pytest.mark.parametrize(("path", "service"), SERVICES.items())
def test_each_path_has_its_service(path: str, service: Service) -> None:
    route = TABLE.find(path.encode())
    assert route is not None
    assert route.service is service


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/api",
        "/api/",
        "/api/auth",
        "/api/auth/",
        "/api/auth/login/",
        "/api/vouchers",
        "/api/admin",
        "/api/admin/usersfoo",
        "/api/organizations",
        "/api/organizations/",
        "/api/organizations/3/",
        "/api/organizations/3/settings",
        "/api/organizations//users".replace("//", "/"),
        "/API/auth/login",
        "/api/Auth/login",
        "/internal",
        "/internal/charges",
        "/api/internal/charges",
        "/metrics",
        "/.well-known",
        "/.well-known/openid-configuration",
        "/api/auth%20/login",
    ],
)
def test_other_paths_are_unknown_or_not_internal(path: str) -> None:
    route = TABLE.find(path.encode())
    assert route is None or path == "/api/organizations/users"


@pytest.mark.parametrize(
    "path",
    [
        "",
        "*",
        "api/auth/login",
        "//api/auth/login",
        "/api//auth/login",
        "/api/auth//login",
        "/api/auth/login//",
        "/api/auth/../../internal/charges",
        "/api/auth/..",
        "/api/auth/.",
        "/api/./auth/login",
        "/api/auth/%2e%2e/internal",
        "/api/auth/%2E./internal",
        "/api/auth%2flogin",
        "/api/auth%2Flogin",
        "/api/auth/%5c..%5cinternal",
        "/api/auth/login;v=1",
        "/api/auth/login%3bv=1",
        "/api/auth/..;/internal",
        "/api/auth/%252e%252e/internal",
        "/api/auth/log%00in",
        "/api/auth/log%0d%0ain",
        "/api/auth/login\\",
        "/api/auth/log in",
        "/api/auth/log\nin",
        "/api/auth/login\n",
        "/api/auth/%",
        "/api/auth/%g1",
        "/api/auth/\u00e9",
    ],
)
def test_ambiguous_paths_are_refused(path: str) -> None:
    with pytest.raises(MalformedPath):
        TABLE.find(path.encode())


def test_public_routes_are_exactly_these() -> None:
    paths = [
        *SERVICES,
        "/api/auth/register",
        "/api/auth/token",
        "/api/auth/refresh",
        "/api/auth/logout",
    ]
    routes = {path: TABLE.find(path.encode()) for path in paths}
    public = {path for path, route in routes.items() if route and route.access is Access.PUBLIC}
    assert public == {
        "/.well-known/jwks.json",
        "/api/auth/register",
        "/api/auth/login",
        "/api/auth/token",
        "/api/auth/refresh",
        "/api/auth/logout",
        "/api/payments/webhooks/stripe",
        "/api/payments/webhooks/stripe/connect",
    }


def test_a_literal_beats_a_parameter_beats_the_rest() -> None:
    exporting = TABLE.find(b"/api/organizations/3/audit-logs/export")
    other = TABLE.find(b"/api/organizations/3/payments/17")
    assert exporting is not None
    assert exporting.timeout is TimeoutClass.EXPORTING
    assert other is not None
    assert other.template == "/api/organizations/{id}/payments/*"


def test_what_waits_for_the_card_gateway_may_take_longer() -> None:
    for path in (b"/api/organizations/3/payment-account", b"/api/payments/5/confirm"):
        route = TABLE.find(path)
        assert route is not None
        assert route.timeout is TimeoutClass.PAYING
    assert TABLE.find(b"/api/organizations/3/payment-account/link") is None


def test_a_path_below_an_exact_route_falls_back_to_the_tree() -> None:
    route = TABLE.find(b"/api/auth/login/history")
    assert route is not None
    assert route.template == "/api/auth/*"
    assert route.access is Access.PROTECTED


@pytest.mark.parametrize("length", [1, 1000], ids=["short", "long"])
def test_a_path_is_checked_each_time_whatever_its_length(length: int) -> None:
    for _ in range(2):  # the second time it may be cached
        route = TABLE.find(b"/api/vouchers/" + b"1" * length)
        assert route is not None
        assert route.template == "/api/vouchers/*"
        with pytest.raises(MalformedPath):
            TABLE.find(b"/api/vouchers/" + b"1" * length + b"/..")
        assert TABLE.find(b"/api/nothing/" + b"1" * length) is None
