"""What this service publishes.

Whatever ends access tokens says so in the `new_values` of its event, for the gateways:
`tokens_not_before` (seconds since 1970, with milliseconds) and `user_id`: that user's tokens
issued earlier are void; `ended_sessions`: tokens with one of these `sid` are void.
"""

from shared.changes import Catalogue

CATALOGUE: Catalogue = {
    ("user", "CREATE"): "identity.user.created.v1",
    ("user", "UPDATE"): "identity.user.updated.v1",
    ("user", "APPROVE"): "identity.user.approved.v1",
    ("user", "DELETE"): "identity.user.deleted.v1",
    ("user", "CHANGE_PASSWORD"): "identity.user.password_changed.v1",
    ("user", "LOGIN"): "identity.user.logged_in.v1",
    ("user", "LOGIN_FAILED"): "identity.user.login_failed.v1",
    ("user", "LOGOUT"): "identity.user.logged_out.v1",
    ("user", "REQUEST_ORGANIZATION"): "identity.organization.requested.v1",
    ("permission", "GRANT"): "identity.permission.granted.v1",
    ("permission", "REVOKE"): "identity.permission.revoked.v1",
}
