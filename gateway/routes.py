"""The path table: which service answers which path, who may call it, how long and how often.

This is the single source. Forwarding, the merged OpenAPI document and the metric labels read it;
nothing else decides where a request goes.
"""

import re
from dataclasses import dataclass, field
from enum import StrEnum

from gateway.errors import MalformedPath


class Service(StrEnum):
    """The services behind the gateway, named as their folders and settings are."""

    IDENTITY = "identity"
    ORGANIZATIONS = "organizations"
    VOUCHERS = "vouchers"
    PAYMENTS = "payments"
    AUDIT = "audit"


class Access(StrEnum):
    """Whether the gateway demands a valid access token before it forwards."""

    PUBLIC = "public"  # a token is not even looked at: a stale one must not stop a refresh
    PROTECTED = "protected"


class TimeoutClass(StrEnum):
    """The timeout class of a route; the settings say how many seconds each one is."""

    STANDARD = "standard"
    PAYING = "paying"  # waits for the card gateway, or for a second service
    EXPORTING = "exporting"  # streams, or walks a whole chain


class Quota(StrEnum):
    """Which requests of an address are counted together; the settings say how many pass."""

    GENERAL = "general"
    SIGN_IN = "sign-in"  # each costs a slow hash, and is a guess at a password
    WEBHOOK = "webhook"  # come in bursts, from few addresses, and must not be lost in a flood


@dataclass(frozen=True, slots=True)
class Route:
    """One row of the table. A template that ends in `/*` takes everything below it."""

    template: str
    service: Service
    access: Access = Access.PROTECTED
    timeout: TimeoutClass = TimeoutClass.STANDARD
    quota: Quota = Quota.GENERAL


def _tree(template: str, service: Service) -> tuple[Route, Route]:
    """A collection and everything below it."""
    return Route(template, service), Route(f"{template}/*", service)


_ORGANIZATION = "/api/organizations/{id}"

ROUTES: tuple[Route, ...] = (
    Route("/.well-known/jwks.json", Service.IDENTITY, Access.PUBLIC),
    Route("/api/auth/register", Service.IDENTITY, Access.PUBLIC, quota=Quota.SIGN_IN),
    Route("/api/auth/login", Service.IDENTITY, Access.PUBLIC, quota=Quota.SIGN_IN),
    Route("/api/auth/token", Service.IDENTITY, Access.PUBLIC, quota=Quota.SIGN_IN),
    Route("/api/auth/refresh", Service.IDENTITY, Access.PUBLIC),
    # Whoever holds the refresh token may end its session, also after the access token expired.
    Route("/api/auth/logout", Service.IDENTITY, Access.PUBLIC),
    Route("/api/auth/*", Service.IDENTITY),
    *_tree("/api/admin/users", Service.IDENTITY),
    *_tree(f"{_ORGANIZATION}/users", Service.IDENTITY),
    # Creating an organization creates its owner in identity before it answers.
    Route("/api/admin/organizations", Service.ORGANIZATIONS, timeout=TimeoutClass.PAYING),
    Route("/api/admin/organizations/*", Service.ORGANIZATIONS),
    Route(_ORGANIZATION, Service.ORGANIZATIONS),
    *_tree(f"{_ORGANIZATION}/voucher-types", Service.VOUCHERS),
    Route(f"{_ORGANIZATION}/vouchers", Service.VOUCHERS),
    Route("/api/voucher-types/*", Service.VOUCHERS),
    Route("/api/vouchers/purchase", Service.VOUCHERS, timeout=TimeoutClass.PAYING),
    # A quote asks payments what was paid; the refund waits for the card gateway.
    Route("/api/vouchers/{id}/refund-quote", Service.VOUCHERS, timeout=TimeoutClass.PAYING),
    Route("/api/vouchers/{id}/refunds", Service.VOUCHERS, timeout=TimeoutClass.PAYING),
    # Payments closes the payment before the voucher is cancelled.
    Route("/api/vouchers/{id}/cancel", Service.VOUCHERS, timeout=TimeoutClass.PAYING),
    Route("/api/vouchers/*", Service.VOUCHERS),
    Route("/api/payments/webhooks/*", Service.PAYMENTS, Access.PUBLIC, quota=Quota.WEBHOOK),
    Route("/api/payments/{id}/confirm", Service.PAYMENTS, timeout=TimeoutClass.PAYING),
    Route("/api/payments/*", Service.PAYMENTS),
    *_tree(f"{_ORGANIZATION}/payments", Service.PAYMENTS),
    Route(
        f"{_ORGANIZATION}/payments/{{tx}}/refunds",
        Service.PAYMENTS,
        timeout=TimeoutClass.PAYING,
    ),
    *_tree(f"{_ORGANIZATION}/invoices", Service.PAYMENTS),
    Route("/api/admin/audit-logs", Service.AUDIT),
    Route("/api/admin/audit-logs/export", Service.AUDIT, timeout=TimeoutClass.EXPORTING),
    Route("/api/admin/audit-logs/verify", Service.AUDIT, timeout=TimeoutClass.EXPORTING),
    Route(f"{_ORGANIZATION}/audit-logs", Service.AUDIT),
    Route(f"{_ORGANIZATION}/audit-logs/export", Service.AUDIT, timeout=TimeoutClass.EXPORTING),
    Route(f"{_ORGANIZATION}/audit-logs/verify", Service.AUDIT, timeout=TimeoutClass.EXPORTING),
)

# RFC 3986 path characters without `;` (parameters that servers strip or keep as they like), and
# percent-encodings without the ones that another parser could read as structure: control
# characters, % (encoded twice), `.`, `/`, `;` and `\`. No empty and no dot segments.
_SAFE_PATH = re.compile(
    rb"(?:/(?!\.{1,2}(?:/|\Z))"
    rb"(?:[A-Za-z0-9_.~!$&'()*+,=:@-]|%(?![01]|2[5EeFf]|3[Bb]|5[Cc]|7[Ff])[0-9A-Fa-f]{2})+)+/?|/"
)
_PARAMETER = re.compile(r"\{[^}]*\}\Z")


@dataclass(slots=True)
class _Node:
    literals: dict[bytes, "_Node"] = field(default_factory=dict)
    parameter: "_Node | None" = None
    route: Route | None = None  # the path ends here
    below: Route | None = None  # one or more segments follow


class RouteTable:
    """Finds the route of a path segment by segment: a literal beats a parameter beats `/*`."""

    def __init__(self, routes: tuple[Route, ...] = ROUTES) -> None:
        self._root = _Node()
        for route in routes:
            self._add(route)

    def find(self, raw_path: bytes) -> Route | None:
        """The route of the undecoded path, or None when the gateway does not know it.

        Raises MalformedPath (400) for a path that two parsers could understand differently.
        """
        if _SAFE_PATH.fullmatch(raw_path) is None:
            raise MalformedPath
        return _walk(self._root, raw_path.split(b"/")[1:])

    def _add(self, route: Route) -> None:
        node = self._root
        segments = route.template.split("/")[1:]
        for segment in segments[:-1] if segments[-1] == "*" else segments:
            node = _child(node, segment)
        if segments[-1] == "*":
            node.below = route
        else:
            node.route = route


def _child(node: _Node, segment: str) -> _Node:
    if _PARAMETER.match(segment) is None:
        return node.literals.setdefault(segment.encode(), _Node())
    if node.parameter is None:
        node.parameter = _Node()
    return node.parameter


def _walk(node: _Node, segments: list[bytes]) -> Route | None:
    """Depth-first with the best match first; the tree is as deep as the longest template."""
    if not segments:
        return node.route
    head, rest = segments[0], segments[1:]
    if not head:  # a trailing slash names another resource, and there is none
        return None
    literal = node.literals.get(head)
    found = _walk(literal, rest) if literal is not None else None
    if found is None and node.parameter is not None:
        found = _walk(node.parameter, rest)
    if found is None and node.below is not None and rest[-1:] != [b""]:
        found = node.below
    return found
