"""Every select of this service, and the few set-based updates, by subject."""

from services.identity.queries.attempts import (
    list_attempt_counts,
    lock_attempt_counts,
)
from services.identity.queries.dependants import (
    count_dependants,
    find_dependant,
    list_dependants,
    lock_dependant,
    lock_dependants,
)
from services.identity.queries.links import (
    delete_links_of,
    delete_old_links,
    end_open_links,
    find_link,
    lock_link,
)
from services.identity.queries.organizations import (
    find_organization_copy,
    find_organization_copy_by_slug,
    lock_organization_copy,
)
from services.identity.queries.permissions import (
    find_permission,
    list_permissions,
    permissions_of,
)
from services.identity.queries.registrations import (
    list_managers,
    list_organizations_with_registrations,
    list_waiting_users,
    lock_registration_notices,
)
from services.identity.queries.revocations import (
    list_sessions_ended_since,
    organizations_closed_since,
    token_cutoffs_since,
)
from services.identity.queries.sessions import (
    SessionToken,
    delete_expired_sessions,
    end_sessions,
    erase_refresh_answers,
    find_refresh_token,
    find_session,
    has_signed_in_from,
    is_unused,
    list_live_sessions,
    lock_session,
)
from services.identity.queries.signing_keys import (
    list_published_keys,
    list_signing_keys,
    lock_signing_keys,
)
from services.identity.queries.users import (
    UserFilter,
    find_first_administrator,
    find_profile,
    find_user,
    find_user_by_email,
    find_user_for_update,
    get_document,
    get_user,
    is_last_administrator,
    is_last_owner,
    list_owners,
    lock_user,
    page_of_users,
)

__all__ = [
    "SessionToken",
    "UserFilter",
    "count_dependants",
    "delete_expired_sessions",
    "delete_links_of",
    "delete_old_links",
    "end_open_links",
    "end_sessions",
    "erase_refresh_answers",
    "find_dependant",
    "find_first_administrator",
    "find_link",
    "find_organization_copy",
    "find_organization_copy_by_slug",
    "find_permission",
    "find_profile",
    "find_refresh_token",
    "find_session",
    "find_user",
    "find_user_by_email",
    "find_user_for_update",
    "get_document",
    "get_user",
    "has_signed_in_from",
    "is_last_administrator",
    "is_last_owner",
    "is_unused",
    "list_attempt_counts",
    "list_dependants",
    "list_live_sessions",
    "list_managers",
    "list_organizations_with_registrations",
    "list_owners",
    "list_permissions",
    "list_published_keys",
    "list_sessions_ended_since",
    "list_signing_keys",
    "list_waiting_users",
    "lock_attempt_counts",
    "lock_dependant",
    "lock_dependants",
    "lock_link",
    "lock_organization_copy",
    "lock_registration_notices",
    "lock_session",
    "lock_signing_keys",
    "lock_user",
    "organizations_closed_since",
    "page_of_users",
    "permissions_of",
    "token_cutoffs_since",
]
