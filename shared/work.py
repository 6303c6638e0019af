"""The transactions of a request whose use case needs more than one."""

from contextlib import AbstractAsyncContextManager

from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import HTTPConnection

from shared.actors import Actor
from shared.context import Origin, request_origin
from shared.idempotency import IdempotencyClaim
from shared.tenancy import EVERYTHING, NOTHING, Tenant
from shared.transactions import Transactions


def tenant_of(actor: Actor | None) -> Tenant:
    """Return what an actor's transactions may see: everything for an admin, nothing for None."""
    if actor is None:
        return NOTHING
    if actor.is_admin:
        return EVERYTHING
    return Tenant(actor.organization_id, actor.user_id)


def origin_of(request: HTTPConnection, actor: Actor | None) -> Origin:
    """Return the origin that is recorded with a request's changes."""
    origin = request_origin(request)
    return origin.acting(actor.user_id, actor.role) if actor else origin


class Work:
    """Opens the transactions of one request, for a use case that one transaction is not enough for.

    `origin` is recorded with every change; `claim` is the request's hold on its Idempotency-Key,
    or None.
    """

    def __init__(
        self,
        transactions: Transactions,
        origin: Origin,
        tenant: Tenant,
        claim: IdempotencyClaim | None,
    ) -> None:
        self._transactions = transactions
        self._tenant = tenant
        self.origin = origin
        self.claim = claim

    def begin(self, tenant: Tenant | None = None) -> AbstractAsyncContextManager[AsyncSession]:
        """Open a transaction that commits at the end of the block."""
        return self._transactions.begin(self.origin, tenant or self._tenant)
