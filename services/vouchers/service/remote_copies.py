"""Copies of other services' rows, with a call to the owner when ours is missing or out of date."""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

from pydantic import BaseModel
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import queries
from services.vouchers.models import Base, ClientCopy, OrganizationCopy
from shared.clients import ServiceClients
from shared.context import Origin
from shared.errors import ServiceUnavailable
from shared.fields import ServiceData
from shared.transactions import Transactions

Begin = Callable[[], AbstractAsyncContextManager[AsyncSession]]
Copy = TypeVar("Copy", OrganizationCopy, ClientCopy)
State = TypeVar("State", bound=BaseModel)


class OrganizationState(ServiceData):
    """An organization as its service answers."""

    id: int
    version: int
    name: str
    slug: str
    address: str | None = None
    phone: str | None = None
    email: str | None = None
    tax_id: str | None = None
    logo_url: str | None = None
    timezone: str
    currency: str
    is_active: bool


class ClientState(ServiceData):
    """A user as identity answers."""

    id: int
    version: int
    name: str | None
    email: str | None
    role: str
    organization_id: int | None = None
    is_active: bool


async def keep(session: AsyncSession, model: type[Base], state: Mapping[str, Any]) -> None:
    """Store a copy unless the one that is there is as new."""
    statement = insert(model).values(dict(state))
    changes = {name: statement.excluded[name] for name in state if name != "id"}
    await session.execute(
        statement.on_conflict_do_update(
            index_elements=["id"],
            set_=changes,
            where=model.__table__.c.version < statement.excluded.version,
        )
    )


class RemoteCopies:
    """Asks the owners of organizations and users, and keeps what they answer.

    A copy that would make us refuse is asked for again first: the change that allows it may be
    on its way. `begin` opens transactions that see every tenant; none is open during a call.
    """

    def __init__(self, clients: ServiceClients, origin: Origin, begin: Begin) -> None:
        self._clients = clients
        self._origin = origin
        self._begin = begin

    async def find_organization(self, organization_id: int) -> OrganizationCopy | None:
        """Return our copy, or what the owner answers, or None; raises ServiceUnavailable."""
        async with self._begin() as session:
            copy = await session.get(OrganizationCopy, organization_id)
        return copy or await self.fetch_organization(organization_id)

    async def fetch_organization(self, organization_id: int) -> OrganizationCopy | None:
        """Return an organization as its owner knows it, or None; raises ServiceUnavailable."""
        path = f"/internal/organizations/{organization_id}"
        state = await self._ask("organizations", path, OrganizationState)
        return await self._keep(OrganizationCopy, state)

    async def ask_by_slug(self, slug: str) -> OrganizationState | None:
        """Return an organization as its owner knows it, and keep nothing.

        Raises ServiceUnavailable.
        """
        return await self._ask(
            "organizations", "/internal/organizations", OrganizationState, slug=slug
        )

    async def fetch_client(self, client_id: int) -> ClientCopy | None:
        """Return a user as identity knows it, or None; raises ServiceUnavailable."""
        state = await self._ask("identity", f"/internal/users/{client_id}", ClientState)
        return await self._keep(ClientCopy, state)

    async def _ask(
        self,
        service: str,
        path: str,
        state: type[State],
        **params: str,
    ) -> State | None:
        answer = await self._clients.request(service, "GET", path, self._origin, params=params)
        if answer.status_code == 404:
            return None
        if answer.status_code != 200:
            raise ServiceUnavailable(f"The {service} service could not answer.")
        return state.model_validate_json(answer.content)

    async def _keep(self, model: type[Copy], state: BaseModel | None) -> Copy | None:
        if state is None:
            return None
        values = state.model_dump()
        async with self._begin() as session:
            await keep(session, model, values)
            return await session.get(model, values["id"])


async def learn_organizations(transactions: Transactions, remote_copies: RemoteCopies) -> None:
    """Fetch the organizations whose voucher types are here but whose time zone is not known."""
    async with transactions.system() as session:
        unknown = await queries.organizations_without_copy(session)
    for organization_id in unknown:
        await remote_copies.find_organization(organization_id)
