"""Users: copied into identity, and into the copies of users that vouchers stores."""

from deploy.upgrade.rows.copy_step import (
    CREATED,
    OF_EVERY_TABLE,
    UPDATED,
    CopyStep,
    Finding,
    taken_as,
)
from services.identity.models import NO_PASSWORD

SUFFIX = ".duplicate-"
"""Appended, with the user's id and `.invalid`, to an address that an older user has. The domain
`.invalid` never receives mail (RFC 2606, section 2)."""

EMAIL_SET_ASIDE = "email_set_aside"

# Addresses are equal by the rule of the index that would refuse them: the target's folded().
FIND_COLLISIONS = f"""
    INSERT INTO upgrade_findings (table_name, rule, id, detail)
    SELECT 'users', '{EMAIL_SET_ASIDE}', id, jsonb_build_object(
        'was', email, 'is', email || '{SUFFIX}' || id || '.invalid',
        'kept_by', keeper, 'is_active', false)
    FROM (
        SELECT id, email, first_value(id) OVER (
            PARTITION BY folded(email) ORDER BY created_at NULLS LAST, id) AS keeper
        FROM upgrade_emails
    ) address
    WHERE id <> keeper
"""  # noqa: S608
SET_ASIDE = f"""
    SELECT id FROM upgrade_findings WHERE table_name = 'users' AND rule = '{EMAIL_SET_ASIDE}'
"""  # noqa: S608
_BLANKS = r"E' \t\n\r\f\x0b'"
TRIMMED = f"nullif(btrim(r.email::text, {_BLANKS}), '')"
"""A user's address without the blanks around it, or null."""

MISSING = "@missing.invalid"
ADDRESS = f"coalesce({TRIMMED}, 'user-' || r.id || '{MISSING}')"
EMAILS = f"SELECT r.id::bigint, {ADDRESS}, r.created_at::timestamp FROM public.users r"  # noqa: S608
TAKEN_EMAILS = """
    SELECT min(u.id) FROM users u JOIN upgrade_emails e ON folded(e.email) = folded(u.email)
"""

_ROLES = "'admin', 'therapist', 'client'"
_ROLE = f"CASE WHEN r.role IN ({_ROLES}) THEN r.role::text ELSE 'client' END"
_NAME = "coalesce(r.name::text, 'User ' || r.id)"
_IS_OWNER = "(r.role IS NOT DISTINCT FROM 'admin' AND r.id <> {system_admin})"
# A chunk has at most a few users who are set aside, so a list is as fast as a join.
_IS_SET_ASIDE = "r.id = ANY({set_aside})"
_COPIED = {
    "id": "r.id::bigint",
    "email": (
        f"CASE WHEN {_IS_SET_ASIDE} THEN {ADDRESS} || '{SUFFIX}' || r.id || '.invalid'"
        f" ELSE {ADDRESS} END"
    ),
    "name": _NAME,
    "role": f"CASE WHEN {_IS_OWNER} THEN 'organization_owner' ELSE {_ROLE} END",
    "organization_id": "{organization}::bigint",
    "is_active": (f"coalesce(r.is_active, true) AND {TRIMMED} IS NOT NULL AND NOT {_IS_SET_ASIDE}"),
    "version": "1::bigint",
}
_READ = "public.users r WHERE r.id BETWEEN $1 AND $2"

USERS = CopyStep(
    name="users",
    service="identity",
    columns={
        **_COPIED,
        "password_hash": f"coalesce(r.password_hash::text, '{NO_PASSWORD}')",
        "is_organization_owner": _IS_OWNER,
        "approved_at": CREATED,
        "created_at": CREATED,
        "updated_at": UPDATED,
    },
    read=_READ,
    findings={
        "admin_made_owner": Finding(
            _IS_OWNER, "jsonb_build_object('was', 'admin', 'is', 'organization_owner')"
        ),
        # A sign-in in version 2 requires an address of this form.
        "email_without_its_form": Finding(
            f"({TRIMMED} !~ '^[^@[:space:]]+@[^@[:space:].]+[.]' OR length({TRIMMED}) > 254)",
            "jsonb_build_object('email', r.email)",
        ),
        "email_trimmed": Finding(
            f"r.email::text <> {TRIMMED}",
            f"jsonb_build_object('was', r.email, 'is', {TRIMMED})",
        ),
        "email_missing": Finding(
            f"{TRIMMED} IS NULL", f"jsonb_build_object('is', {ADDRESS}, 'is_active', false)"
        ),
        "name_unknown": taken_as("name", _NAME),
        "name_not_as_entered_today": Finding(
            "(length(r.name) > 255 OR r.name ~ '[[:cntrl:]]')",
            "jsonb_build_object('length', length(r.name))",
        ),
        "password_unknown": Finding("r.password_hash IS NULL", "jsonb_build_object()"),
        "role_unknown": Finding(
            f"(r.role IN ({_ROLES})) IS NOT TRUE",
            "jsonb_build_object('was', r.role, 'is', 'client')",
        ),
        "is_active_unknown": taken_as("is_active", "true"),
        **OF_EVERY_TABLE,
    },
)

CLIENT_COPIES = CopyStep(
    name="client_copies", service="vouchers", columns=_COPIED, read=_READ, counted="users"
)

OWNERS_PERMISSIONS = """
    INSERT INTO permissions (user_id, organization_id, permission, granted_at, created_at,
                             updated_at, version)
    SELECT u.id, u.organization_id, 'all', p.began_at, p.began_at, p.began_at, 1
    FROM users u JOIN upgrade_plan p ON p.organization_id = u.organization_id
    WHERE u.role = 'organization_owner' AND u.id <= $1
    ON CONFLICT DO NOTHING
"""

ORGANIZATION_COPY = """
    INSERT INTO organization_copies (id, slug, slug_version, is_active, is_active_version,
                                     updated_at)
    VALUES ($1, $2, $3, $4, $3, now()) ON CONFLICT DO NOTHING
"""
