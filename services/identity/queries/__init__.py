"""Every select of this service, and the few set-based updates, by subject."""

from services.identity.queries.organizations import (
    find_organization_copy,
    find_organization_copy_by_slug,
    lock_organization_copy,
)
from services.identity.queries.permissions import (
    find_permission,
    permissions_of,
)
from services.identity.queries.revocations import (
    list_revocations,
)
from services.identity.queries.sessions import (
    delete_expired_sessions,
    end_sessions,
    erase_refresh_answers,
    find_refresh_token,
    has_signed_in_from,
    list_live_sessions,
    lock_session,
)
from services.identity.queries.users import (
    UserFilter,
    find_first_administrator,
    find_user,
    find_user_by_email,
    is_last_administrator,
    is_last_owner,
    lock_user,
    owners_of,
    page_of_users,
)

__all__ = [
    "UserFilter",
    "delete_expired_sessions",
    "end_sessions",
    "erase_refresh_answers",
    "find_first_administrator",
    "find_organization_copy",
    "find_organization_copy_by_slug",
    "find_permission",
    "find_refresh_token",
    "find_user",
    "find_user_by_email",
    "has_signed_in_from",
    "is_last_administrator",
    "is_last_owner",
    "list_live_sessions",
    "list_revocations",
    "lock_organization_copy",
    "lock_session",
    "lock_user",
    "owners_of",
    "page_of_users",
    "permissions_of",
]
