"""Who may do what: one table of every operation and every kind of caller."""

from typing import Any

import httpx
import pytest

from services.identity.app import create_app
from services.identity.settings import Settings
from services.identity.tests.conftest import MINE, OTHER, People, Person

pytestmark = pytest.mark.anyio

CALLERS = ("anonymous", "client", "staff", "manager", "owner", "stranger", "admin")
NEW = {"name": "New", "password": "another good one", "role": "staff"}
MEMBERS = "/api/organizations/{organization}/users"
CHILD = {"name": "Zofia Nowak"}

# method, path, body → status for: anonymous, a client, staff without permission, staff with
# manage_users, an owner (all of the organization), another organization's owner, an admin.
TABLE: list[tuple[str, str, dict[str, Any] | None, tuple[int, ...]]] = [
    ("GET", "/api/admin/users", None, (401, 403, 403, 403, 403, 403, 200)),
    ("POST", "/api/admin/users", NEW, (401, 403, 403, 403, 403, 403, 201)),
    ("GET", "/api/admin/users/{target}", None, (401, 403, 403, 403, 403, 403, 200)),
    ("PUT", "/api/admin/users/{target}", {"name": "N"}, (401, 403, 403, 403, 403, 403, 200)),
    ("DELETE", "/api/admin/users/{target}", None, (401, 403, 403, 403, 403, 403, 200)),
    (
        "PUT",
        "/api/admin/users/{target}/password",
        {"password": "another good one"},
        (401, 403, 403, 403, 403, 403, 200),
    ),
    ("POST", "/api/admin/users/{pending}/approve", None, (401, 403, 403, 403, 403, 403, 200)),
    ("POST", "/api/admin/users/{invited}/invitation", None, (401, 403, 403, 403, 403, 403, 200)),
    ("DELETE", "/api/admin/users/{invited}/invitation", None, (401, 403, 403, 403, 403, 403, 200)),
    ("POST", MEMBERS + "/{invited}/invitation", None, (401, 403, 403, 200, 200, 404, 200)),
    ("DELETE", MEMBERS + "/{invited}/invitation", None, (401, 403, 403, 200, 200, 404, 200)),
    ("GET", MEMBERS, None, (401, 403, 403, 200, 200, 404, 200)),
    ("POST", MEMBERS, NEW, (401, 403, 403, 201, 201, 404, 201)),
    ("GET", MEMBERS + "/{target}", None, (401, 403, 403, 200, 200, 404, 200)),
    ("PUT", MEMBERS + "/{target}", {"name": "N"}, (401, 403, 403, 200, 200, 404, 200)),
    ("DELETE", MEMBERS + "/{target}", None, (401, 403, 403, 200, 200, 404, 200)),
    ("POST", MEMBERS + "/{pending}/approve", None, (401, 403, 403, 200, 200, 404, 200)),
    ("GET", MEMBERS + "/{target}/permissions", None, (401, 403, 403, 403, 200, 404, 200)),
    (
        "POST",
        MEMBERS + "/{target}/permissions",
        {"permission": "view_payments"},
        (401, 403, 403, 403, 201, 404, 201),
    ),
    (
        "DELETE",
        MEMBERS + "/{target}/permissions/manage_vouchers",
        None,
        (401, 403, 403, 403, 200, 404, 200),
    ),
    ("GET", MEMBERS + "/{target}/dependants", None, (401, 403, 403, 200, 200, 404, 200)),
    ("POST", MEMBERS + "/{guardian}/dependants", CHILD, (401, 403, 403, 201, 201, 404, 201)),
    ("PUT", MEMBERS + "/{target}/dependants/9999", CHILD, (401, 403, 403, 404, 404, 404, 404)),
    ("DELETE", MEMBERS + "/{target}/dependants/9999", None, (401, 403, 403, 404, 404, 404, 404)),
    ("GET", "/api/auth/dependants", None, (401, 200, 200, 200, 200, 200, 200)),
    # Only clients of an organization have dependants.
    ("POST", "/api/auth/dependants", CHILD, (401, 201, 409, 409, 409, 409, 409)),
    ("PUT", "/api/auth/dependants/9999", CHILD, (401, 404, 404, 404, 404, 404, 404)),
    ("DELETE", "/api/auth/dependants/9999", None, (401, 404, 404, 404, 404, 404, 404)),
    ("GET", "/api/auth/me", None, (401, 200, 200, 200, 200, 200, 200)),
    ("PUT", "/api/auth/me", {"name": "N"}, (401, 200, 200, 200, 200, 200, 200)),
    (
        "PUT",
        "/api/auth/password",
        {"current_password": "correct horse battery", "new_password": "another good one"},
        (401, 200, 200, 200, 200, 200, 200),
    ),
    (
        "PUT",
        "/api/auth/address",
        {"email": "moved@example.org", "current_password": "correct horse battery"},
        (401, 202, 202, 202, 202, 202, 202),
    ),
    # The tokens here belong to no session, whose sign-in could be renewed.
    (
        "POST",
        "/api/auth/reauthenticate",
        {"password": "correct horse battery"},
        (401, 401, 401, 401, 401, 401, 401),
    ),
    # What the answer to a password contains is proof enough, and nobody here has it.
    (
        "POST",
        "/api/auth/login/second-factor",
        {"mfa_token": "never", "code": "000000"},
        (401, 401, 401, 401, 401, 401, 401),
    ),
    (
        "POST",
        "/api/auth/login/second-factor/setup",
        {"mfa_token": "never"},
        (401, 401, 401, 401, 401, 401, 401),
    ),
    ("GET", "/api/auth/second-factor", None, (401, 200, 200, 200, 200, 200, 200)),
    ("POST", "/api/auth/second-factor", None, (401, 201, 201, 201, 201, 201, 201)),
    (
        "POST",
        "/api/auth/second-factor/confirm",
        {"code": "000000"},
        (401, 404, 404, 404, 404, 404, 404),
    ),
    (
        "POST",
        "/api/auth/second-factor/recovery-codes",
        None,
        (401, 404, 404, 404, 404, 404, 404),
    ),
    ("DELETE", "/api/auth/second-factor", None, (401, 404, 404, 404, 404, 404, 404)),
    # Nobody here has a second factor.
    (
        "DELETE",
        "/api/admin/users/{target}/second-factor",
        None,
        (401, 403, 403, 403, 403, 403, 404),
    ),
    ("DELETE", MEMBERS + "/{target}/second-factor", None, (401, 403, 403, 404, 404, 404, 404)),
    ("GET", "/api/auth/sessions", None, (401, 200, 200, 200, 200, 200, 200)),
    ("DELETE", "/api/auth/sessions", None, (401, 200, 200, 200, 200, 200, 200)),
    (
        "DELETE",
        "/api/auth/sessions/6f1d1c43-9f5c-4a4a-8f5e-0d8b1f0d4c55",
        None,
        (401, 404, 404, 404, 404, 404, 404),
    ),
]


async def _callers(people: People) -> dict[str, Person | None]:
    return {
        "anonymous": None,
        "client": await people.add("client", MINE),
        "staff": await people.add("staff", MINE),
        # Holds what the target holds, or the target could not be changed by it.
        "manager": await people.add("staff", MINE, ("manage_users", "manage_vouchers")),
        "owner": await people.add("organization_owner", MINE),
        "stranger": await people.add("organization_owner", OTHER),
        "admin": await people.add("admin"),
    }


async def _ids(people: People) -> dict[str, int]:
    target = await people.add("staff", MINE, ("manage_vouchers",))
    pending = await people.add("client", MINE, approved=False, is_active=False)
    invited = await people.add_invited("client", MINE)
    guardian = await people.add("client", MINE)
    return {
        "organization": MINE,
        "target": target.id,
        "pending": pending.id,
        "invited": invited.id,
        "guardian": guardian.id,
    }


@pytest.mark.parametrize(("method", "path", "body", "expected"), TABLE)
async def test_every_operation_for_every_caller(
    client: httpx.AsyncClient,
    people: People,
    method: str,
    path: str,
    body: dict[str, Any] | None,
    expected: tuple[int, ...],
) -> None:
    await people.copy_organizations(MINE, OTHER)
    callers = await _callers(people)
    statuses = {}
    for name, caller in callers.items():
        ids = await _ids(people)
        sent = {**body, "email": f"{name}@new.example.org"} if body is NEW and body else body
        answer = await client.request(
            method, path.format(**ids), json=sent, headers=caller.headers if caller else {}
        )
        statuses[name] = answer.status_code
        if answer.status_code == 403:
            assert answer.json()["detail"].startswith("Not authorized")
    assert statuses == dict(zip(CALLERS, expected, strict=True))


async def test_the_table_is_complete(settings: Settings) -> None:
    paths = create_app(settings).openapi()["paths"]
    public = {
        *("register", "login", "token", "refresh", "logout", "password-reset"),
        *("confirm", "accept", "renew"),
    }
    operations = {
        (method.upper(), path)
        for path, methods in paths.items()
        for method in methods
        if path == "/api/auth/second-factor/confirm"
        or (path.rpartition("/")[2] not in public and not path.startswith("/.well-known"))
    }
    named = {
        (
            method,
            path.replace("{organization}", "{organization_id}")
            .replace("{target}", "{user_id}")
            .replace("{pending}", "{user_id}")
            .replace("{invited}", "{user_id}")
            .replace("{guardian}", "{user_id}")
            .replace("9999", "{dependant_id}")
            .replace("manage_vouchers", "{permission}")
            .replace("6f1d1c43-9f5c-4a4a-8f5e-0d8b1f0d4c55", "{session_id}"),
        )
        for method, path, _, _ in TABLE
    }
    assert named == operations


FOREIGN = [
    ("GET", "/api/organizations/{organization}/users/{user}", None),
    ("PUT", "/api/organizations/{organization}/users/{user}", {"name": "N"}),
    ("DELETE", "/api/organizations/{organization}/users/{user}", None),
    ("POST", "/api/organizations/{organization}/users/{user}/approve", None),
    ("POST", "/api/organizations/{organization}/users/{user}/invitation", None),
    ("DELETE", "/api/organizations/{organization}/users/{user}/invitation", None),
    ("DELETE", "/api/organizations/{organization}/users/{user}/second-factor", None),
    ("GET", "/api/organizations/{organization}/users/{user}/permissions", None),
    (
        "POST",
        "/api/organizations/{organization}/users/{user}/permissions",
        {"permission": "all"},
    ),
    ("DELETE", "/api/organizations/{organization}/users/{user}/permissions/all", None),
]


@pytest.mark.parametrize(("method", "path", "body"), FOREIGN)
async def test_foreign_ids_answer_like_ids_that_never_were(
    client: httpx.AsyncClient,
    people: People,
    owner: Person,
    method: str,
    path: str,
    body: dict[str, Any] | None,
) -> None:
    theirs = await people.add("client", OTHER, approved=False, is_active=False)
    answers = []
    for organization, user in (
        (MINE, theirs.id),
        (MINE, 2**62),
        (OTHER, theirs.id),
        (2**62, theirs.id),
    ):
        url = path.format(organization=organization, user=user)
        answer = await client.request(method, url, json=body, headers=owner.headers)
        answers.append((answer.status_code, answer.json()["code"]))
    assert answers[0] == answers[1] == (404, "user_not_found")
    assert answers[2] == answers[3] == (404, "organization_not_found")
    for huge in ("0", "-1", str(2**63), "x"):
        url = path.format(organization=MINE, user=huge)
        answer = await client.request(method, url, json=body, headers=owner.headers)
        assert answer.status_code == 422
