"""An organization of the run: its people, what it sells, and what clients know of its vouchers."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import httpx

from deploy.api_client import Person, unique
from deploy.demo.story import PACKAGE, PASSWORD

CLIENTS = 4
ORGANIZATION = {"timezone": "Europe/Warsaw", "currency": "EUR", "address": "Beach Road 1"}


@dataclass
class ChaosOrganization:
    """One organization with everybody who acts in it."""

    organization_id: int
    owner: Person
    therapist: Person
    clients: list[Person]
    voucher_type: int
    edited_type: int
    editing: asyncio.Lock = field(default_factory=asyncio.Lock)
    vouchers: list[dict[str, Any]] = field(default_factory=list)
    redemptions: list[dict[str, Any]] = field(default_factory=list)
    disputed: set[int] = field(default_factory=set)
    """Ids of vouchers whose money a bank wants back, or has wanted: each once."""

    @property
    def here(self) -> str:
        """The path of what belongs to the organization."""
        return f"/api/organizations/{self.organization_id}"


def founding(name: str) -> dict[str, Any]:
    """Return the order of an organization and its owner, whose names nobody else has."""
    word = unique(name)
    return {
        **ORGANIZATION,
        "name": word,
        "owner_email": f"{word}@example.com",
        "owner_name": f"Owner of {word}",
        "owner_password": PASSWORD,
    }


async def create_organization(
    api: httpx.AsyncClient, admin: Person, name: str
) -> ChaosOrganization:
    """Found an organization before anything fails. Raises UnexpectedAnswer."""
    order = founding(name)
    made = await admin.call("POST", "/api/admin/organizations", order, expect=201)
    owner = Person(api, "owner", order["owner_email"], PASSWORD)
    await owner.sign_in()
    here = f"/api/organizations/{made['id']}"
    types = [
        (await owner.call("POST", f"{here}/voucher-types", PACKAGE, expect=201))["id"]
        for _ in range(2)
    ]
    hired = [("therapist", "therapist"), *(("client", f"client-{n}") for n in range(CLIENTS))]
    people = await asyncio.gather(*(_hire(owner, here, role, word) for role, word in hired))
    return ChaosOrganization(made["id"], owner, people[0], list(people[1:]), types[0], types[1])


async def _hire(owner: Person, here: str, role: str, name: str) -> Person:
    person = Person(owner.api, name, f"{unique(name)}@example.com", PASSWORD)
    body = {"email": person.email, "name": name, "password": PASSWORD, "role": role}
    await owner.call("POST", f"{here}/users", body, expect=201)
    await person.sign_in()
    return person
