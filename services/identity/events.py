"""The events that this service publishes.

An event that makes access tokens void states so in its `new_values`, for the gateways:
`tokens_not_before` (seconds since 1970, with milliseconds) and `user_id`: that user's tokens
issued earlier are void; `ended_sessions`: tokens with one of these `sid` are void.
"""

from typing import NotRequired, TypedDict

from shared import denials
from shared.changes import Catalogue
from shared.shapes import Shapes, change, fact, new_row, removal

CATALOGUE: Catalogue = {
    ("user", "CREATE"): "identity.user.created.v1",
    ("user", "INVITE"): "identity.user.invited.v1",
    ("user", "UPDATE"): "identity.user.updated.v1",
    ("user", "APPROVE"): "identity.user.approved.v1",
    ("user", "DELETE"): "identity.user.deleted.v1",
    ("user", "CHANGE_PASSWORD"): "identity.user.password_changed.v1",
    ("user", "REQUEST_PASSWORD_RESET"): "identity.user.password_reset_requested.v1",
    ("user", "ADD_SECOND_FACTOR"): "identity.user.second_factor_added.v1",
    ("user", "REMOVE_SECOND_FACTOR"): "identity.user.second_factor_removed.v1",
    ("user", "RENEW_RECOVERY_CODES"): "identity.user.recovery_codes_renewed.v1",
    ("user", "USE_RECOVERY_CODE"): "identity.user.recovery_code_used.v1",
    ("user", "REAUTHENTICATE"): "identity.user.reauthenticated.v1",
    ("user", "LOGIN"): "identity.user.logged_in.v1",
    ("user", "LOGIN_FAILED"): "identity.user.login_failed.v1",
    ("user", "LOGOUT"): "identity.user.logged_out.v1",
    ("user", "REQUEST_ORGANIZATION"): "identity.organization.requested.v1",
    ("dependant", "CREATE"): "identity.dependant.created.v1",
    ("dependant", "UPDATE"): "identity.dependant.updated.v1",
    ("dependant", "DELETE"): "identity.dependant.deleted.v1",
    ("permission", "GRANT"): "identity.permission.granted.v1",
    ("permission", "REVOKE"): "identity.permission.revoked.v1",
    ("request", "DENIED"): "identity.request.denied.v1",
}

LISTENERS = ("audit.log", "organizations.requests", "payments.users", "vouchers.clients")
"""The queues that take these events. No event is published before all of them exist."""


class TokensVoided(TypedDict):
    """The user whose access tokens issued before a moment (seconds since 1970) are void."""

    user_id: int
    tokens_not_before: float


class OptionalTokensVoided(TypedDict, total=False):
    """A change that may void a user's access tokens, with the fields of TokensVoided."""

    user_id: int
    tokens_not_before: float


class PasswordChanged(OptionalTokensVoided):
    """A change by an administrator or by a link voids every token, one by the user ends all other
    sessions."""

    ended_sessions: NotRequired[list[str]]
    reason: NotRequired[str]


class LoggedIn(TypedDict):
    """The session that was opened."""

    session_id: str


class SecondFactorRemoved(TypedDict):
    """Who removed it: `user` or `staff`."""

    by: str


class RecoveryCodeUsed(TypedDict):
    """How many recovery codes are left."""

    codes_left: int


class LoginFailed(TypedDict):
    """Why a sign-in was refused."""

    reason: str


class LoggedOut(OptionalTokensVoided):
    """Why sessions ended: those that are listed, or all sessions of the user."""

    reason: str
    ended_sessions: NotRequired[list[str]]


class OrganizationRequested(TypedDict):
    """The name that the requested organization will have."""

    organization_name: str


SHAPES: Shapes = {
    "identity.user.created.v1": new_row(),
    "identity.user.updated.v1": change(OptionalTokensVoided),
    "identity.user.deleted.v1": removal(TokensVoided),
    "identity.user.password_changed.v1": change(PasswordChanged),
    "identity.user.password_reset_requested.v1": fact(),
    "identity.user.second_factor_added.v1": change(),
    "identity.user.second_factor_removed.v1": change(SecondFactorRemoved),
    "identity.user.recovery_codes_renewed.v1": change(),
    "identity.user.recovery_code_used.v1": change(RecoveryCodeUsed),
    "identity.user.reauthenticated.v1": change(LoggedIn),
    "identity.user.logged_in.v1": change(LoggedIn),
    "identity.user.login_failed.v1": fact(LoginFailed),
    "identity.user.logged_out.v1": change(LoggedOut),
    "identity.organization.requested.v1": change(OrganizationRequested),
    "identity.dependant.created.v1": new_row(),
    "identity.dependant.deleted.v1": removal(),
    "identity.permission.granted.v1": new_row(TokensVoided),
    "identity.permission.revoked.v1": removal(OptionalTokensVoided),
    "identity.request.denied.v1": denials.SHAPE,
}
