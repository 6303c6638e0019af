"""The path table: the service of each path, who may call it, its timeout and its rate limit.

Forwarding, the merged OpenAPI document and the labels of metrics use this table only.
"""

import re
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache

from gateway.errors import MalformedPath


class Service(StrEnum):
    """The services behind the gateway, with the names of their folders and settings."""

    IDENTITY = "identity"
    ORGANIZATIONS = "organizations"
    VOUCHERS = "vouchers"
    PAYMENTS = "payments"
    AUDIT = "audit"


class Access(StrEnum):
    """Whether the gateway requires a valid access token."""

    PUBLIC = "public"  # a token is ignored: an expired one must not prevent a refresh
    PROTECTED = "protected"


class TimeoutClass(StrEnum):
    """The timeout class of a route; the settings define the seconds of each class."""

    STANDARD = "standard"
    PAYING = "paying"  # waits for the card gateway, or for a second service
    EXPORTING = "exporting"  # streams, or verifies a whole chain


class Quota(StrEnum):
    """The requests of an address that are counted together; the settings define the limits."""

    GENERAL = "general"
    SIGN_IN = "sign-in"  # each costs a slow hash, and may be a guess of a password
    WEBHOOK = "webhook"  # arrive in bursts, from few addresses, and must not be lost
    CALENDAR = "calendar"  # calendar services read the feeds of many users from few addresses


@dataclass(frozen=True, slots=True)
class Route:
    """One row of the table. A template that ends in `/*` matches everything below it."""

    template: str
    service: Service
    access: Access = Access.PROTECTED
    timeout: TimeoutClass = TimeoutClass.STANDARD
    quota: Quota = Quota.GENERAL


def _tree(template: str, service: Service) -> tuple[Route, Route]:
    """Return the routes of a collection and of everything below it."""
    return Route(template, service), Route(f"{template}/*", service)


_ORGANIZATION = "/api/organizations/{id}"

ROUTES: tuple[Route, ...] = (
    Route("/.well-known/jwks.json", Service.IDENTITY, Access.PUBLIC),
    Route("/api/auth/register", Service.IDENTITY, Access.PUBLIC, quota=Quota.SIGN_IN),
    Route("/api/auth/login", Service.IDENTITY, Access.PUBLIC, quota=Quota.SIGN_IN),
    Route("/api/auth/login/second-factor", Service.IDENTITY, Access.PUBLIC, quota=Quota.SIGN_IN),
    Route(
        "/api/auth/login/second-factor/setup",
        Service.IDENTITY,
        Access.PUBLIC,
        quota=Quota.SIGN_IN,
    ),
    Route("/api/auth/token", Service.IDENTITY, Access.PUBLIC, quota=Quota.SIGN_IN),
    Route("/api/auth/password-reset", Service.IDENTITY, Access.PUBLIC, quota=Quota.SIGN_IN),
    Route("/api/auth/password-reset/confirm", Service.IDENTITY, Access.PUBLIC, quota=Quota.SIGN_IN),
    Route("/api/auth/address/confirm", Service.IDENTITY, Access.PUBLIC, quota=Quota.SIGN_IN),
    Route("/api/auth/invitation/accept", Service.IDENTITY, Access.PUBLIC, quota=Quota.SIGN_IN),
    Route("/api/auth/links/renew", Service.IDENTITY, Access.PUBLIC, quota=Quota.SIGN_IN),
    Route("/api/auth/refresh", Service.IDENTITY, Access.PUBLIC),
    # The refresh token is enough to end its session, also after the access token expired.
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
    Route(f"{_ORGANIZATION}/booking-settings", Service.VOUCHERS),
    *_tree(f"{_ORGANIZATION}/resources", Service.VOUCHERS),
    *_tree(f"{_ORGANIZATION}/closures", Service.VOUCHERS),
    *_tree(f"{_ORGANIZATION}/classes", Service.VOUCHERS),
    *_tree(f"{_ORGANIZATION}/session-series", Service.VOUCHERS),
    Route(f"{_ORGANIZATION}/sessions", Service.VOUCHERS),
    Route(f"{_ORGANIZATION}/reservations", Service.VOUCHERS),
    Route("/api/sessions/*", Service.VOUCHERS),
    Route("/api/reservations/*", Service.VOUCHERS),
    *_tree("/api/calendar-feeds", Service.VOUCHERS),
    # The last segment is the token of a feed, with the ending .ics.
    Route("/api/calendars/{token}", Service.VOUCHERS, Access.PUBLIC, quota=Quota.CALENDAR),
    Route("/api/voucher-types/*", Service.VOUCHERS),
    Route("/api/vouchers/purchase", Service.VOUCHERS, timeout=TimeoutClass.PAYING),
    # A quote reads from payments what was paid; the refund waits for the card gateway.
    Route("/api/vouchers/{id}/refund-quote", Service.VOUCHERS, timeout=TimeoutClass.PAYING),
    Route("/api/vouchers/{id}/refunds", Service.VOUCHERS, timeout=TimeoutClass.PAYING),
    # A transfer reads from payments whether a refund is under way.
    Route("/api/vouchers/{id}/transfers", Service.VOUCHERS, timeout=TimeoutClass.PAYING),
    # Payments closes the payment before the voucher is cancelled.
    Route("/api/vouchers/{id}/cancel", Service.VOUCHERS, timeout=TimeoutClass.PAYING),
    Route("/api/vouchers/*", Service.VOUCHERS),
    Route("/api/payments/webhooks/*", Service.PAYMENTS, Access.PUBLIC, quota=Quota.WEBHOOK),
    Route("/api/payments/saved-cards", Service.PAYMENTS, timeout=TimeoutClass.PAYING),
    Route("/api/payments/saved-cards/*", Service.PAYMENTS, timeout=TimeoutClass.PAYING),
    Route("/api/payments/{id}/confirm", Service.PAYMENTS, timeout=TimeoutClass.PAYING),
    Route("/api/payments/*", Service.PAYMENTS),
    # Creates an account and a link at the card gateway, or disconnects the account there.
    Route(f"{_ORGANIZATION}/payment-account", Service.PAYMENTS, timeout=TimeoutClass.PAYING),
    *_tree(f"{_ORGANIZATION}/payments", Service.PAYMENTS),
    Route(
        f"{_ORGANIZATION}/payments/{{tx}}/refunds",
        Service.PAYMENTS,
        timeout=TimeoutClass.PAYING,
    ),
    *_tree(f"{_ORGANIZATION}/invoices", Service.PAYMENTS),
    *_tree(f"{_ORGANIZATION}/payouts", Service.PAYMENTS),
    Route(f"{_ORGANIZATION}/platform-fee", Service.PAYMENTS),
    Route("/api/admin/audit-logs", Service.AUDIT),
    Route("/api/admin/audit-logs/export", Service.AUDIT, timeout=TimeoutClass.EXPORTING),
    Route("/api/admin/audit-logs/verify", Service.AUDIT, timeout=TimeoutClass.EXPORTING),
    Route(f"{_ORGANIZATION}/audit-logs", Service.AUDIT),
    Route(f"{_ORGANIZATION}/audit-logs/export", Service.AUDIT, timeout=TimeoutClass.EXPORTING),
    Route(f"{_ORGANIZATION}/audit-logs/verify", Service.AUDIT, timeout=TimeoutClass.EXPORTING),
)

# RFC 3986 path characters without `;` (some servers remove parameters, others do not), and
# percent-encodings except those that another parser could read as structure: control characters,
# % (encoded twice), `.`, `/`, `;` and `\`. No empty and no dot segments. The possessive quantifiers
# (`++`) match whole runs and never go back, so no path takes more than one pass.
_SAFE_PATH = re.compile(
    rb"(?:/(?!\.{1,2}(?:/|\Z))"
    rb"(?:[A-Za-z0-9_.~!$&'()*+,=:@-]++"
    rb"|%(?![01]|2[5EeFf]|3[Bb]|5[Cc]|7[Ff])[0-9A-Fa-f]{2})++)++/?|/"
)
# Many requests have the path of an earlier one. Longer paths are rare and would need more memory.
_CACHED_PATHS = 4096
_LONGEST_CACHED = 128  # bytes
_PARAMETER = re.compile(r"\{[^}]*\}\Z")


@dataclass(slots=True)
class _Node:
    literals: dict[bytes, "_Node"] = field(default_factory=dict)
    parameter: "_Node | None" = None
    route: Route | None = None  # the path ends here
    below: Route | None = None  # one or more segments follow


class RouteTable:
    """Finds the route of a path; in each segment a literal precedes a parameter, and that `/*`."""

    def __init__(self, routes: tuple[Route, ...] = ROUTES) -> None:
        self._root = _Node()
        self._find_cached = lru_cache(maxsize=_CACHED_PATHS)(self._find)
        for route in routes:
            self._add(route)

    def find(self, raw_path: bytes) -> Route | None:
        """Return the route of the undecoded path, or None if there is none.

        Raises MalformedPath (400) for a path that two parsers could interpret differently.
        """
        if len(raw_path) <= _LONGEST_CACHED:
            return self._find_cached(raw_path)
        return self._find(raw_path)

    def _find(self, raw_path: bytes) -> Route | None:
        if _SAFE_PATH.fullmatch(raw_path) is None:
            raise MalformedPath
        return _walk(self._root, raw_path.split(b"/"), 1)

    def _add(self, route: Route) -> None:
        node = self._root
        segments = route.template.split("/")[1:]
        for segment in segments[:-1] if segments[-1] == "*" else segments:
            if _PARAMETER.match(segment) is None:
                node = node.literals.setdefault(segment.encode(), _Node())
            else:
                parent, node = node, node.parameter or _Node()
                parent.parameter = node
        if segments[-1] == "*":
            node.below = route
        else:
            node.route = route


def _walk(node: _Node, segments: list[bytes], position: int) -> Route | None:
    """Search depth-first, the best match first. The longest template limits the depth."""
    if position == len(segments):
        return node.route
    segment = segments[position]
    if not segment:  # a trailing slash names another resource, and there is none
        return None
    literal = node.literals.get(segment)
    route = _walk(literal, segments, position + 1) if literal is not None else None
    if route is None and node.parameter is not None:
        route = _walk(node.parameter, segments, position + 1)
    if route is None and node.below is not None and segments[-1]:
        route = node.below
    return route
