"""The transactions of a request with a use case that needs more than one."""

from contextlib import AbstractAsyncContextManager

from sqlalchemy.ext.asyncio import AsyncSession

from shared.actors import Actor
from shared.context import Origin
from shared.idempotency import IdempotencyClaim
from shared.tenancy import EVERYTHING, NOTHING, Tenant
from shared.transactions import Transactions


def tenant_of(actor: Actor | None) -> Tenant:
    """Return the rows that an actor's transactions may see: all for an admin, none for None."""
    if actor is None:
        return NOTHING
    if actor.is_admin:
        return EVERYTHING
    return Tenant(actor.organization_id, actor.user_id)


class Work:
    """Opens the transactions of one request, for a use case that needs several.

    `origin` is recorded with every change; `claim` is the request's claim of its Idempotency-Key,
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

    def begin(self) -> AbstractAsyncContextManager[AsyncSession]:
        """Open a transaction that commits at the end of the block."""
        return self._transactions.begin(self.origin, self._tenant)
