"""Who acts: the signed-in user of a request, or the service that calls an internal route."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shared.errors import RECENT_SECONDS, Forbidden, ReauthenticationRequired, Unauthenticated

ADMIN = "admin"
OWNER = "organization_owner"
ALL = "all"


@dataclass(frozen=True, slots=True)
class Actor:
    """The signed-in user of a request."""

    user_id: int
    role: str
    organization_id: int | None = None
    permissions: frozenset[str] = frozenset()
    session_id: str | None = None
    expires_at: int = 0
    issued_at: float = 0.0
    auth_time: int | None = None
    """When the user last proved who they are, in seconds since 1970. None for what no user has
    signed in to."""

    @property
    def is_admin(self) -> bool:
        """Return whether this is an administrator of the whole system."""
        return self.role == ADMIN

    def may(self, permission: str, organization_id: int | None) -> bool:
        """Return whether the actor holds a permission in an organization."""
        if self.is_admin:
            return True
        if organization_id is None or organization_id != self.organization_id:
            return False
        return self.role == OWNER or bool({permission, ALL} & self.permissions)

    def require_recent_sign_in(self) -> None:
        """Raise ReauthenticationRequired if the user signed in more than 15 minutes ago."""
        if self.auth_time is not None and time.time() - self.auth_time > RECENT_SECONDS:
            raise ReauthenticationRequired

    def require(self, permission: str, organization_id: int | None) -> None:
        """Raise Forbidden if the actor does not hold the permission in the organization."""
        if not self.may(permission, organization_id):
            raise permission_missing(permission)


def permission_missing(permission: str) -> Forbidden:
    """Return the error for a member of an organization who does not hold a permission."""
    return Forbidden(f"This needs the permission {permission}. Ask an owner of the organization.")


def actor_of(claims: Mapping[str, Any]) -> Actor:
    """Return the actor of verified claims. Raises Unauthenticated if they name no user."""
    try:
        return Actor(
            user_id=int(claims["sub"]),
            role=str(claims["role"]),
            organization_id=claims.get("organization_id"),
            permissions=frozenset(claims.get("permissions", ())),
            session_id=claims.get("sid"),
            expires_at=int(claims["exp"]),
            issued_at=float(claims["iat"]),
            auth_time=int(claims["auth_time"]) if "auth_time" in claims else None,
        )
    except (KeyError, TypeError, ValueError):
        raise Unauthenticated("The access token is not valid. Sign in again.") from None


@dataclass(frozen=True, slots=True)
class CallingService:
    """The service that calls an internal route, and the user on whose behalf it calls."""

    name: str
    user_id: int | None
    role: str
