"""The callers of the tests of access: each role, and a staff member for each permission."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import httpx

from deploy.api_client import Person, unique

PASSWORD = "correct horse battery"
OTHER_PASSWORD = "violet kettle drummer"
PERMISSIONS = (
    "manage_organization",
    "manage_users",
    "manage_voucher_types",
    "manage_vouchers",
    "manage_bookings",
    "manage_payments",
    "view_payments",
    "view_audit_logs",
    "all",
)


@dataclass(kw_only=True)
class Caller(Person):
    """A caller of the API; the anonymous one has no token, staff may have one permission."""

    api: httpx.AsyncClient
    name: str
    email: str = ""
    password: str = PASSWORD
    token: str | None = None
    id: int = 0
    organization_id: int | None = None
    permission: str | None = None

    async def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request as this caller and return the response."""
        own = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        headers = own | options.pop("headers", {})
        return await self.api.request(method, path, headers=headers, **options)


@dataclass
class Cast:
    """Two organizations with their users, and an administrator of the system.

    The stranger owns the second organization, and the outsider is its client.
    """

    anonymous: Caller
    admin: Caller
    owner: Caller
    stranger: Caller
    client: Caller
    neighbour: Caller
    therapist: Caller
    staff: Caller
    outsider: Caller
    granted: dict[str, Caller] = field(default_factory=dict)

    def everybody(self) -> list[Caller]:
        """Return all who can sign in."""
        alone = (self.admin, self.owner, self.stranger, self.client, self.neighbour)
        return [*alone, self.therapist, self.staff, self.outsider, *self.granted.values()]

    async def sign_in(self) -> None:
        """Sign all callers in, with new tokens."""
        await asyncio.gather(*(person.sign_in() for person in self.everybody()))


async def assemble(api: httpx.AsyncClient, first_admin: Person) -> Cast:
    """Create both organizations with their objects and sign all callers in."""
    await first_admin.sign_in()
    admin = _caller(api, "admin")
    body = {"email": admin.email, "name": "admin", "password": PASSWORD, "role": "admin"}
    admin.id = (await first_admin.call("POST", "/api/admin/users", body, expect=201))["id"]
    await admin.sign_in()
    owner, stranger = [await _found(admin, name) for name in ("owner", "stranger")]
    roles = {"client": "client", "neighbour": "client", "therapist": "therapist", "staff": "staff"}
    hired = asyncio.gather(*(_hire(owner, name, role) for name, role in roles.items()))
    granted = asyncio.gather(*(_hire(owner, name, "staff") for name in PERMISSIONS))
    client, neighbour, therapist, staff = await hired
    cast = Cast(
        anonymous=Caller(api=api, name="anonymous"),
        admin=admin,
        owner=owner,
        stranger=stranger,
        client=client,
        neighbour=neighbour,
        therapist=therapist,
        staff=staff,
        outsider=await _hire(stranger, "outsider", "client"),
        granted=await _grant(owner, await granted),
    )
    await cast.sign_in()
    return cast


def _caller(api: httpx.AsyncClient, name: str, **known: Any) -> Caller:
    return Caller(api=api, name=name, email=f"{unique(name)}@example.com", **known)


async def _found(admin: Caller, name: str) -> Caller:
    owner = _caller(admin.api, name)
    body = {
        "name": f"Practice of the {name}",
        "owner_email": owner.email,
        "owner_name": name,
        "owner_password": owner.password,
        "currency": "EUR",
    }
    made = await admin.call("POST", "/api/admin/organizations", body, expect=201)
    owner.id, owner.organization_id = made["owner"]["id"], made["id"]
    await owner.sign_in()
    return owner


async def _hire(owner: Caller, name: str, role: str) -> Caller:
    person = _caller(owner.api, name, organization_id=owner.organization_id)
    body = {"email": person.email, "name": name, "password": person.password, "role": role}
    path = f"/api/organizations/{owner.organization_id}/users"
    person.id = (await owner.call("POST", path, body, expect=201))["id"]
    return person


async def _grant(owner: Caller, staff: Iterable[Caller]) -> dict[str, Caller]:
    for person in staff:
        person.permission = person.name
        path = f"/api/organizations/{owner.organization_id}/users/{person.id}/permissions"
        await owner.call("POST", path, {"permission": person.name}, expect=201)
    return {person.name: person for person in staff}
