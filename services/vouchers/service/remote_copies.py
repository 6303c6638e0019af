"""Copies of organizations and users, whose owners are other services.

Events keep the copies current. Where a copy is missing or could be out of date, its owner is
called.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from pydantic import BaseModel
from sqlalchemy import update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import policies, queries
from services.vouchers.models import Base, ClientCopy, OrganizationCopy
from shared.clients import ServiceClients
from shared.context import Origin
from shared.errors import ServiceUnavailable
from shared.fields import ServiceData
from shared.tenancy import see_all_tenants
from shared.transactions import Transactions
from shared.work import Begin

CopyModel = TypeVar("CopyModel", OrganizationCopy, ClientCopy)
RemoteState = TypeVar("RemoteState", bound=BaseModel)


class OrganizationState(ServiceData):
    """An organization as the organizations service publishes it."""

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
    """A user as identity publishes it."""

    id: int
    version: int
    name: str | None
    email: str | None
    role: str
    organization_id: int | None = None
    is_active: bool


class CopiedClient(ClientState):
    """A user or a dependant as identity returns it."""

    guardian_id: int | None = None


class DependantState(ServiceData):
    """A dependant, a client without an account, as identity publishes it."""

    id: int
    version: int
    name: str
    guardian_id: int
    organization_id: int | None = None
    is_active: bool


async def store_copy(session: AsyncSession, model: type[Base], state: Mapping[str, Any]) -> None:
    """Store a copy, unless the stored one is as new."""
    statement = insert(model).values(dict(state))
    changes = {name: statement.excluded[name] for name in state if name != "id"}
    await session.execute(
        statement.on_conflict_do_update(
            index_elements=["id"],
            set_=changes,
            where=model.__table__.c.version < statement.excluded.version,
        )
    )


async def store_dependant(session: AsyncSession, state: DependantState) -> None:
    """Store a copy of a dependant, a client without an address, unless the stored one is as new."""
    of_client = {"email": None, "role": policies.CLIENT}
    await store_copy(session, ClientCopy, {**state.model_dump(), **of_client})


async def update_copy(
    session: AsyncSession,
    model: type[Base],
    entity_id: int | None,
    version: int | None,
    changes: Mapping[str, Any],
) -> None:
    """Change a copy that is older than `version`. A missing copy is fetched when it is needed."""
    columns = model.__table__.c
    await session.execute(
        update(model)
        .where(columns.id == entity_id, columns.version < version)
        .values({**changes, "id": entity_id, "version": version})
        .execution_options(synchronize_session=False)
    )


class RemoteCopies:
    """Fetches organizations and users from the services that own them, and stores copies.

    `begin` opens a transaction; what happens in it is seen for all tenants. None is open while
    another service is called.
    """

    def __init__(self, clients: ServiceClients, origin: Origin, begin: Begin) -> None:
        self._clients = clients
        self._origin = origin
        self._begin = begin

    async def find_organization(self, organization_id: int) -> OrganizationCopy | None:
        """Return the stored copy, or the organization from its owner, or None.

        Raises ServiceUnavailable.
        """
        async with self._begin_for_all_tenants() as session:
            copy = await session.get(OrganizationCopy, organization_id)
        return copy or await self.fetch_organization(organization_id)

    async def fetch_organization(self, organization_id: int) -> OrganizationCopy | None:
        """Fetch an organization from its owner and store it, or return None.

        Raises ServiceUnavailable.
        """
        path = f"/internal/organizations/{organization_id}"
        state = await self._request("organizations", path, OrganizationState)
        return await self._store(OrganizationCopy, state)

    async def read_organization_by_slug(self, slug: str) -> OrganizationState | None:
        """Return an organization from its owner without storing it, or None.

        Raises ServiceUnavailable.
        """
        return await self._request(
            "organizations", "/internal/organizations", OrganizationState, slug=slug
        )

    async def fetch_client(self, client_id: int) -> ClientCopy | None:
        """Fetch a user or a dependant from identity and store it, or return None.

        Raises ServiceUnavailable.
        """
        state = await self._request("identity", f"/internal/users/{client_id}", CopiedClient)
        return await self._store(ClientCopy, state)

    async def _request(
        self, service: str, path: str, model: type[RemoteState], **params: str
    ) -> RemoteState | None:
        response = await self._clients.request(service, "GET", path, self._origin, params=params)
        if response.status_code == 404:
            return None
        if response.status_code != 200:
            raise ServiceUnavailable(f"The {service} service could not answer.")
        return model.model_validate_json(response.content)

    async def _store(self, model: type[CopyModel], state: BaseModel | None) -> CopyModel | None:
        if state is None:
            return None
        values = state.model_dump()
        async with self._begin_for_all_tenants() as session:
            await store_copy(session, model, values)
            return await session.get(model, values["id"])

    @asynccontextmanager
    async def _begin_for_all_tenants(self) -> AsyncIterator[AsyncSession]:
        async with self._begin() as session:
            await see_all_tenants(session)
            yield session


async def fetch_missing_organizations(transactions: Transactions, copies: RemoteCopies) -> None:
    """Fetch the organizations that have voucher types but no copy, so that their time zone is
    known when vouchers expire. Raises ServiceUnavailable."""
    async with transactions.system() as session:
        organization_ids = await queries.list_organizations_without_copy(session)
    for organization_id in organization_ids:
        await copies.find_organization(organization_id)
