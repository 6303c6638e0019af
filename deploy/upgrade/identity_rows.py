"""Users: from version 1 into identity, and from identity into the copies that vouchers keeps."""

from deploy.upgrade.copy_step import CREATED, UPDATED, CopyStep, taken_as, unknown_time

SUFFIX = ".duplicate-"
"""What follows an address that somebody else had first, before the user's id and `.invalid`, a
domain that never receives mail (RFC 2606, section 2)."""

EMAIL_SET_ASIDE = "email_set_aside"

# The addresses are equal by the rule of the index that would refuse them: the target's lower().
FIND_COLLISIONS = f"""
    INSERT INTO upgrade_findings (table_name, rule, id, detail)
    SELECT 'users', '{EMAIL_SET_ASIDE}', id, jsonb_build_object(
        'was', email, 'is', email || '{SUFFIX}' || id || '.invalid',
        'kept_by', keeper, 'is_active', false)
    FROM (
        SELECT id, email, first_value(id) OVER (
            PARTITION BY lower(email) ORDER BY created_at NULLS LAST, id) AS keeper
        FROM upgrade_emails
    ) address
    WHERE id <> keeper
"""  # noqa: S608
EMAILS = "SELECT id::bigint, email::text, created_at::timestamp FROM public.users"
TAKEN_EMAILS = """
    SELECT min(u.id) FROM users u JOIN upgrade_emails e ON lower(e.email) = lower(u.email)
"""

USERS = CopyStep(
    name="users",
    service="identity",
    table="users",
    staging={
        "id": "bigint",
        "email": "text",
        "name": "text",
        "password_hash": "text",
        "role": "text",
        "is_active": "boolean",
        "created_at": "timestamp",
        "updated_at": "timestamp",
    },
    extract="""
        SELECT id::bigint, email::text, name::text, password_hash::text, role::text, is_active,
               created_at::timestamp, updated_at::timestamp
        FROM public.users WHERE id BETWEEN $1 AND $2
    """,
    load=f"""
        INSERT INTO users (id, email, name, password_hash, role, organization_id,
            is_organization_owner, is_active, approved_at, created_at, updated_at, version)
        SELECT s.id, coalesce(f.detail->>'is', s.email), s.name, s.password_hash,
            CASE WHEN s.role = 'admin' AND s.id IS DISTINCT FROM p.system_admin_id
                 THEN 'organization_owner' ELSE s.role END,
            p.organization_id,
            s.role = 'admin' AND s.id IS DISTINCT FROM p.system_admin_id,
            coalesce(s.is_active, true) AND f.id IS NULL,
            {CREATED}, {CREATED}, {UPDATED}, 1
        FROM upgrade_staging_users s CROSS JOIN upgrade_plan p
        LEFT JOIN upgrade_findings f
            ON f.table_name = 'users' AND f.rule = '{EMAIL_SET_ASIDE}' AND f.id = s.id
    """,  # noqa: S608
    findings={
        "admin_made_owner": """
            jsonb_build_object('was', 'admin', 'is', 'organization_owner')
            FROM upgrade_staging_users s, upgrade_plan p
            WHERE s.role = 'admin' AND s.id IS DISTINCT FROM p.system_admin_id
        """,
        # Version 2 asks for an address of this form when somebody signs in.
        "email_without_its_form": r"""
            jsonb_build_object('email', s.email)
            FROM upgrade_staging_users s WHERE s.email !~ '^[^@[:space:]]+@[^@[:space:].]+[.]'
        """,
        "is_active_unknown": taken_as("upgrade_staging_users", "is_active", "true"),
        "created_at_unknown": unknown_time("upgrade_staging_users"),
    },
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

CLIENT_COPIES = CopyStep(
    name="client_copies",
    service="vouchers",
    table="client_copies",
    read_from="identity",
    source_table="users",
    staging={
        "id": "bigint",
        "version": "bigint",
        "name": "text",
        "email": "text",
        "role": "text",
        "organization_id": "bigint",
        "is_active": "boolean",
    },
    extract="""
        SELECT id, version, name, email, role, organization_id, is_active
        FROM users WHERE id BETWEEN $1 AND $2
    """,
    load="""
        INSERT INTO client_copies (id, version, name, email, role, organization_id, is_active)
        SELECT id, version, name, email, role, organization_id, is_active
        FROM upgrade_staging_client_copies ON CONFLICT DO NOTHING
    """,
)
