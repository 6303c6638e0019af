"""The dependencies by which a route gets its transactions and its clients of other services.

`SessionDep` is one transaction. It is committed after the endpoint returns and before the response
is sent. `WorkDep` opens transactions on demand, for use cases that call another service or hash a
password in between; with `ClaimingWorkDep` the use case itself claims the Idempotency-Key, in its
first transaction. Routes for Carnet's own services take `InternalSessionDep` or
`InternalWorkDep`, which verify the calling service's token, and name the services that may call
them with `called_by`.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request, Response
from sqlalchemy.ext.asyncio import AsyncSession

from shared.actors import Actor
from shared.auth import CallingServiceDep, OptionalActorDep
from shared.changes import change_log
from shared.clients import ServiceClients
from shared.context import Origin, request_origin
from shared.failpoints import failpoint
from shared.idempotency import IdempotencyClaim, claim_of_request, is_final
from shared.reads import Reader
from shared.tenancy import EVERYTHING
from shared.transactions import Transactions
from shared.work import Work, tenant_of

Dependency = TypeVar("Dependency", bound=Callable[..., Any])


class ClaimSettlement:
    """Settles a claimed Idempotency-Key when the outcome of the request is known.

    With a `session` the key is settled in the request's one transaction, with a `work` in the last
    transaction, if the use case has left it open, or in a transaction of its own.
    """

    def __init__(
        self,
        claim: IdempotencyClaim,
        *,
        session: AsyncSession | None = None,
        work: Work | None = None,
    ) -> None:
        self._claim, self._session, self._work = claim, session, work

    async def settle(self, response: Response) -> None:
        """Store a final response under the key, or release the key."""
        if self._session is not None:
            if is_final(response.status_code):
                await self._claim.store(self._session, response)
        elif self._work is not None and self._work.last_session is not None:
            await self._settle_leased(self._work.last_session, response)
            await self._work.commit_last()
            failpoint("request.concluded")
        elif self._work is not None and (self._claim.is_leased or is_final(response.status_code)):
            async with self._work.begin() as session:
                if not self._claim.is_leased:
                    await self._claim.begin(session, lease=True)
                await self._settle_leased(session, response)

    async def _settle_leased(self, session: AsyncSession, response: Response) -> None:
        if is_final(response.status_code):
            await self._claim.store(session, response)
        else:
            await self._claim.release(session)

    async def refuse(self, response: Response) -> None:
        """Roll back the effect of the request, then store its error response.

        A request that was refused before it claimed its key, or whose claim was rolled back, claims
        it now. Raises what `IdempotencyClaim.begin` raises if another request has the key.
        """
        if self._session is not None:
            await self._session.rollback()
            change_log(self._session).reset()
        elif self._work is not None:
            await self._work.roll_back_last()
        await self.settle(response)

    async def abandon(self) -> None:
        """Release a leased key after an unexpected failure, so that the client may retry at once.

        Raises nothing: the failure itself is reported. The lease expires in any case.
        """
        if self._work is not None and self._claim.is_leased:
            with suppress(Exception):
                await self._work.roll_back_last()
                async with self._work.begin() as session:
                    await self._claim.release(session)


def settlement_of(request: Request) -> ClaimSettlement | None:
    """Return how the request's Idempotency-Key is settled; None for a request without a key."""
    settlement: ClaimSettlement | None = getattr(request.state, "claim_settlement", None)
    return settlement


def origin_of(request: Request, actor: Actor | None) -> Origin:
    """Return the origin that is recorded with a request's changes."""
    origin = request_origin(request)
    return origin.acting(actor.user_id, actor.role) if actor else origin


def _transactions(request: Request) -> Transactions:
    transactions: Transactions = request.app.state.transactions
    return transactions


def honours_key(dependency: Dependency) -> Dependency:
    """Mark a dependency by which a POST honours an Idempotency-Key, for the OpenAPI document."""
    dependency.honours_key = True  # type: ignore[attr-defined]
    return dependency


@honours_key
async def unit_of_work(request: Request, actor: OptionalActorDep) -> AsyncIterator[AsyncSession]:
    """Yield the request's one transaction."""
    claim = await claim_of_request(request, actor)
    async with _transactions(request).begin(origin_of(request, actor), tenant_of(actor)) as session:
        if claim:
            await claim.begin(session)
            request.state.claim_settlement = ClaimSettlement(claim, session=session)
        yield session


@honours_key
async def work_of(request: Request, actor: OptionalActorDep) -> AsyncIterator[Work]:
    """Yield the request's Work. Its Idempotency-Key is leased until the response is stored."""
    claim = await claim_of_request(request, actor)
    work = Work(_transactions(request), origin_of(request, actor), tenant_of(actor), claim)
    if claim:
        async with work.begin() as session:
            await claim.begin(session, lease=True)
        failpoint("request.leased")
        request.state.claim_settlement = ClaimSettlement(claim, work=work)
    yield work


@honours_key
async def claiming_work_of(request: Request, actor: OptionalActorDep) -> AsyncIterator[Work]:
    """Yield the request's Work for a use case that opens `Work.begin_first`.

    A last transaction that is still open afterwards is rolled back.
    """
    claim = await claim_of_request(request, actor)
    work = Work(_transactions(request), origin_of(request, actor), tenant_of(actor), claim)
    if claim:
        request.state.claim_settlement = ClaimSettlement(claim, work=work)
    try:
        yield work
    finally:
        await work.roll_back_last()


async def unclaimed_work_of(request: Request, actor: OptionalActorDep) -> Work:
    """Return a Work that ignores Idempotency-Key, for responses that must not be stored: tokens."""
    return Work(_transactions(request), origin_of(request, actor), tenant_of(actor), None)


async def internal_work_of(request: Request, caller: CallingServiceDep) -> Work:
    """Return the Work of another service's call: it acts for that call's user and sees all rows."""
    origin = replace(request_origin(request), user_id=caller.user_id, role=caller.role)
    return Work(_transactions(request), origin, EVERYTHING, None)


InternalWorkDep = Annotated[Work, Depends(internal_work_of, scope="function")]


async def internal_unit_of_work(work: InternalWorkDep) -> AsyncIterator[AsyncSession]:
    """Yield the one transaction of another service's call."""
    async with work.begin() as session:
        yield session


async def reader_of(request: Request, actor: OptionalActorDep) -> Reader:
    """Return the request's reader, for a response that one statement makes."""
    return Reader(_transactions(request).engine, tenant_of(actor))


ReaderDep = Annotated[Reader, Depends(reader_of)]
SessionDep = Annotated[AsyncSession, Depends(unit_of_work, scope="function")]
WorkDep = Annotated[Work, Depends(work_of, scope="function")]
ClaimingWorkDep = Annotated[Work, Depends(claiming_work_of, scope="function")]
InternalSessionDep = Annotated[AsyncSession, Depends(internal_unit_of_work, scope="function")]
UnclaimedWorkDep = Annotated[Work, Depends(unclaimed_work_of, scope="function")]


async def service_clients_of(request: Request) -> ServiceClients:
    """Return the clients with which this service calls the others."""
    clients: ServiceClients = request.app.state.clients
    return clients


ClientsDep = Annotated[ServiceClients, Depends(service_clients_of)]
