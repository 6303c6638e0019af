"""An organization of the run: its users, voucher types, and the vouchers that were sold."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from deploy.api_client import Person, unique
from deploy.demo.payment_account import connect_account
from deploy.demo.story import PACKAGE, PASSWORD
from deploy.proof.chaos.calendars import ChaosCalendar, open_calendar
from deploy.proof.chaos.platform import Platform

CLIENTS = 4
ORGANIZATION = {"timezone": "Europe/Warsaw", "currency": "EUR", "address": "Beach Road 1"}


@dataclass
class ChaosOrganization:
    """One organization with its users."""

    organization_id: int
    account: str
    """The id of its account at the card gateway."""
    owner: Person
    therapist: Person
    clients: list[Person]
    voucher_type: int
    edited_type: int
    calendar: ChaosCalendar
    editing: asyncio.Lock = field(default_factory=asyncio.Lock)
    vouchers: list[dict[str, Any]] = field(default_factory=list)
    redemptions: list[dict[str, Any]] = field(default_factory=list)
    disputed: set[int] = field(default_factory=set)
    """Ids of vouchers whose payment was disputed. Each is disputed at most once."""

    @property
    def path(self) -> str:
        """The path of the organization's resources."""
        return f"/api/organizations/{self.organization_id}"


def founding(name: str) -> dict[str, Any]:
    """Return the body that creates an organization and its owner, with unique names."""
    word = unique(name)
    return {
        **ORGANIZATION,
        "name": word,
        "owner_email": f"{word}@example.com",
        "owner_name": f"Owner of {word}",
        "owner_password": PASSWORD,
    }


async def create_organization(platform: Platform, admin: Person, name: str) -> ChaosOrganization:
    """Create an organization with its account, before the faults. Raises UnexpectedAnswer."""
    api = platform.api
    body = founding(name)
    organization = await admin.call("POST", "/api/admin/organizations", body, expect=201)
    owner = Person(api, "owner", body["owner_email"], PASSWORD)
    await owner.sign_in()
    path = f"/api/organizations/{organization['id']}"
    types = [
        (await owner.call("POST", f"{path}/voucher-types", PACKAGE, expect=201))["id"]
        for _ in range(2)
    ]
    roles = [("therapist", "therapist"), *(("client", f"client-{n}") for n in range(CLIENTS))]
    people = await asyncio.gather(*(_add_user(owner, path, role, name) for role, name in roles))
    therapist, clients = people[0], list(people[1:])
    return ChaosOrganization(
        organization_id=organization["id"],
        account=await connect_account(platform.cards, owner, clients[0], path),
        owner=owner,
        therapist=therapist,
        clients=clients,
        voucher_type=types[0],
        edited_type=types[1],
        calendar=await open_calendar(owner, path),
    )


async def _add_user(owner: Person, path: str, role: str, name: str) -> Person:
    person = Person(owner.api, name, f"{unique(name)}@example.com", PASSWORD)
    body = {"email": person.email, "name": name, "password": PASSWORD, "role": role}
    await owner.call("POST", f"{path}/users", body, expect=201)
    await person.sign_in()
    return person
