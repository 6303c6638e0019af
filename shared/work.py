"""The transactions of a request with a use case that needs more than one."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from shared.actors import Actor
from shared.changes import change_log
from shared.connections import fetch
from shared.context import Origin
from shared.idempotency import IdempotencyClaim
from shared.tenancy import EVERYTHING, NOTHING, Tenant
from shared.transactions import Transactions

Begin = Callable[[], AbstractAsyncContextManager[AsyncSession]]
"""Opens a transaction of a use case that needs several, as `Work.begin` does."""


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
        self._open = AsyncExitStack()
        self.tenant = tenant
        self.origin = origin
        self.claim = claim
        self.last_session: AsyncSession | None = None
        """The session of the request's last transaction, while that is open."""

    def begin(self) -> AbstractAsyncContextManager[AsyncSession]:
        """Open a transaction that commits at the end of the block."""
        return self._transactions.begin(self.origin, self.tenant)

    @asynccontextmanager
    async def begin_first(self) -> AsyncIterator[AsyncSession]:
        """Open the request's first transaction; `lease_and_fetch` is to be its first statement.

        If the block raises, the lease is rolled back with everything else.
        """
        async with self.begin() as session:
            try:
                yield session
            except BaseException:
                if self.claim is not None:
                    self.claim.forget_lease()
                raise

    async def lease_and_fetch(
        self, session: AsyncSession, statement: str, *parameters: Any
    ) -> Sequence[Mapping[str, Any]]:
        """Lease the Idempotency-Key, if the request has one, and return the rows of a statement.

        Raises as `IdempotencyClaim.begin` does. `claim.resource_id` is the resource of an
        interrupted attempt afterwards.
        """
        if self.claim is None:
            return await fetch(session, statement, *parameters)
        return await self.claim.lease_and_fetch(session, statement, *parameters)

    @asynccontextmanager
    async def begin_last(self) -> AsyncIterator[AsyncSession]:
        """Open the request's last transaction, which commits with the response of its key.

        It stays open after the block, while the response is made of its rows: nothing else may be
        called or begun then, and an error that is raised rolls the transaction back. Without a key
        it commits at the end of the block. If the block raises, it is rolled back at once.
        """
        if self.claim is None:
            async with self.begin() as session:
                yield session
            return
        async with AsyncExitStack() as stack:
            session = await stack.enter_async_context(self.begin())
            yield session
            self._open = stack.pop_all()
            self.last_session = session

    async def commit_last(self) -> None:
        """Commit the last transaction, if it is open."""
        self.last_session = None
        await self._open.aclose()

    async def roll_back_last(self) -> None:
        """Roll the last transaction back, if it is open."""
        try:
            if self.last_session is not None:
                await self.last_session.rollback()
                change_log(self.last_session).reset()
        finally:
            await self.commit_last()
