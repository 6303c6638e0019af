"""The edge of a request: its transaction, its idempotency key, its amounts.

Two ways to work with the database. `SessionDep` is one transaction, committed after the endpoint
returned and before the answer is sent. `WorkDep` opens transactions on demand, for the few use
cases that must call another service or hash a password in between. Routes for Carnet's own
services take `InternalSessionDep` or `InternalWorkDep`, which verify the calling service's token,
and name the services that may call them with `called_by`.
"""

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import replace
from typing import Annotated, Any, TypeVar, get_type_hints

from fastapi import APIRouter, Depends, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.params import Body
from fastapi.routing import APIRoute
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.types import ASGIApp, Receive, Scope, Send

from shared.auth import (
    Actor,
    AllowedCallers,
    CallingServiceDep,
    OptionalActorDep,
    get_calling_service,
)
from shared.card_numbers import refuse_card_numbers
from shared.changes import change_log
from shared.context import Origin, request_origin
from shared.denials import Denials
from shared.errors import AppError, Invalid, problem_of, responses
from shared.failpoints import passed
from shared.idempotency import (
    HEADER,
    MAX_KEY_LENGTH,
    Claim,
    IdempotencyKeyReused,
    Replay,
    RequestInProgress,
    claim_of,
    worth_remembering,
)
from shared.json_reader import DuplicateKey, ExactRequest, MalformedJson
from shared.media_types import FORM, JSON, BodyTooLarge, UnsupportedMediaType, require_readable
from shared.money import write_amounts
from shared.openapi import with_headers
from shared.paging import wanted_page
from shared.parameters import require_few, require_known, require_once
from shared.preconditions import TaggedResponse
from shared.tenancy import EVERYTHING, NOTHING, Tenant
from shared.transactions import Transactions

Handle = Callable[[Request], Coroutine[Any, Any, Response]]
Dependency = TypeVar("Dependency", bound=Callable[..., Any])


def tenant_of(actor: Actor | None) -> Tenant:
    """Return what an actor's transactions may see: an admin everything, a stranger nothing."""
    if actor is None:
        return NOTHING
    if actor.is_admin:
        return EVERYTHING
    return Tenant(actor.organization_id, actor.user_id)


def origin_of(request: Request, actor: Actor | None) -> Origin:
    """Return the origin that a request's changes carry."""
    origin = request_origin(request)
    return origin.acting(actor.user_id, actor.role) if actor else origin


class Work:
    """A request's way to its transactions, when one is not enough."""

    def __init__(
        self, transactions: Transactions, origin: Origin, tenant: Tenant, claim: Claim | None
    ) -> None:
        self._transactions = transactions
        self._tenant = tenant
        self.origin = origin
        self.claim = claim

    def begin(self, tenant: Tenant | None = None) -> AbstractAsyncContextManager[AsyncSession]:
        """Open a transaction that commits at the end of the block."""
        return self._transactions.begin(self.origin, tenant or self._tenant)


class _Hold:
    """What the route must finish for a claimed key, in the session or a transaction of its own."""

    def __init__(self, claim: Claim, session: AsyncSession | None, work: Work | None) -> None:
        self.claim, self.session, self.work = claim, session, work

    async def refuse(self, response: Response) -> None:
        """Finish the key of a request whose effect is taken back."""
        if self.session is None:
            await self.settle(response)
            return
        await self.session.rollback()
        change_log(self.session).reset()
        if worth_remembering(response.status_code):
            await self.claim.remember(self.session, response)

    async def settle(self, response: Response) -> None:
        if self.session is not None:
            await self._settle(self.session, response)
        elif self.work is not None:
            async with self.work.begin() as session:
                await self._settle(session, response)

    async def _settle(self, session: AsyncSession, response: Response) -> None:
        if worth_remembering(response.status_code):
            await self.claim.remember(session, response)
        elif self.work is not None:
            await self.claim.release(session)


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
    claim = await claim_of(request, actor)
    begin = _transactions(request).begin(origin_of(request, actor), tenant_of(actor))
    async with begin as session:
        if claim:
            await claim.begin(session)
            request.state.hold = _Hold(claim, session, None)
        yield session


@honours_key
async def work_of(request: Request, actor: OptionalActorDep) -> AsyncIterator[Work]:
    """Yield the request's way to several transactions."""
    claim = await claim_of(request, actor)
    work = Work(_transactions(request), origin_of(request, actor), tenant_of(actor), claim)
    if claim:
        async with work.begin() as session:
            await claim.begin(session, lease=True)
        passed("request.leased")
        request.state.hold = _Hold(claim, None, work)
    yield work


async def unclaimed_work_of(request: Request, actor: OptionalActorDep) -> Work:
    """Return the same without an idempotency key, for answers that must not be kept: tokens."""
    return Work(_transactions(request), origin_of(request, actor), tenant_of(actor), None)


async def internal_work_of(request: Request, caller: CallingServiceDep) -> Work:
    """Return the way to the transactions of another service's call: its user's, seeing all."""
    origin = replace(request_origin(request), user_id=caller.user_id, role=caller.role)
    return Work(_transactions(request), origin, EVERYTHING, None)


InternalWorkDep = Annotated[Work, Depends(internal_work_of, scope="function")]


async def internal_unit_of_work(work: InternalWorkDep) -> AsyncIterator[AsyncSession]:
    """Yield the one transaction of another service's call."""
    async with work.begin() as session:
        yield session


SessionDep = Annotated[AsyncSession, Depends(unit_of_work, scope="function")]
WorkDep = Annotated[Work, Depends(work_of, scope="function")]
InternalSessionDep = Annotated[AsyncSession, Depends(internal_unit_of_work, scope="function")]
UnclaimedWorkDep = Annotated[Work, Depends(unclaimed_work_of, scope="function")]


_KEY_PARAMETER = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": "Makes a repetition safe: the same key and body get the first answer again",
    "schema": {
        "type": "string",
        "minLength": 1,
        "maxLength": MAX_KEY_LENGTH,
        "pattern": "^[!-~]([ -~]*[!-~])?$",
    },
}


def _calls(dependant: Dependant) -> Iterator[Any]:
    """Yield a route's endpoint and everything that it depends on."""
    yield dependant.call
    for inner in dependant.dependencies:
        yield from _calls(inner)


def _query_parameters(dependant: Dependant) -> Iterator[str]:
    """Yield the names of the query parameters that a route takes, by itself or by a dependency."""
    yield from (field.alias for field in dependant.query_params)
    for inner in dependant.dependencies:
        yield from _query_parameters(inner)


def _headers_on_success(endpoint: Callable[..., Any], calls: list[Any]) -> Iterator[str]:
    """Yield what an answer to a page or of a tagged resource carries."""
    if wanted_page in calls:
        yield "Link"
    if TaggedResponse in get_type_hints(endpoint, include_extras=True).values():
        yield "ETag"


def _require_named_callers(path: str, calls: list[Any]) -> None:
    """Raise TypeError for a route that verifies a service's token and says nothing of callers."""
    if get_calling_service in calls and not any(isinstance(c, AllowedCallers) for c in calls):
        raise TypeError(f"{path} names no callers: dependencies=[called_by(...)] is missing")


class _Route(APIRoute):
    """Wraps every endpoint: bodies of its type alone and of a bounded size, known parameters,
    exact numbers in and out, no card numbers, the first answer again for a known key."""

    refuses_card_numbers = True
    refuses_unknown_parameters = True

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        calls = list(_calls(self.dependant))
        self._parameters = frozenset(_query_parameters(self.dependant))
        if self.refuses_unknown_parameters:
            self.responses = {**responses(Invalid), **self.responses}
        _require_named_callers(path, calls)
        success = self.status_code or 200
        answer = with_headers(
            self.responses.get(success, {}), *_headers_on_success(endpoint, calls)
        )
        self.responses = {**self.responses, success: answer}
        body = self.body_field.field_info if self.body_field else None
        self._media_type = body.media_type if isinstance(body, Body) else None
        if self._media_type or "requestBody" in (self.openapi_extra or {}):
            self.responses = {**responses(UnsupportedMediaType), **self.responses}
        if self._media_type:
            refusals = responses(MalformedJson, DuplicateKey, BodyTooLarge)
            self.responses = {**refusals, **self.responses}
        if self.methods == {"POST"} and any(getattr(call, "honours_key", False) for call in calls):
            self._describe_key()

    def _describe_key(self) -> None:
        self.openapi_extra = {**(self.openapi_extra or {}), "parameters": [_KEY_PARAMETER]}
        answers = {**responses(RequestInProgress, IdempotencyKeyReused), **self.responses}
        self.responses = {
            status: with_headers(answer, "Idempotent-Replayed")
            if worth_remembering(int(status))
            else answer
            for status, answer in answers.items()
        }

    async def _read(self, request: ExactRequest) -> None:
        """Refuse what is too much or has no place here, before anything is made of it."""
        await require_few(request, self._media_type)
        if self.refuses_unknown_parameters:
            require_known(request, self._parameters)
        if self._media_type == FORM:
            await require_once(request)
        if self._media_type == JSON and await request.body():
            await request.json()

    def get_route_handler(self) -> Handle:
        handle = super().get_route_handler()

        async def handle_exactly(request: Request) -> Response:
            request = ExactRequest(request.scope, request.receive)
            try:
                await require_readable(request, self._media_type)
                await self._read(request)
                if self.refuses_card_numbers:
                    await refuse_card_numbers(request, in_header=HEADER)
                response = await handle(request)
            except Replay as replay:
                return replay.answer.response()
            except AppError as error:
                denials: Denials = request.app.state.denials
                denials.count(request, error)
                return await _refuse(request, error)
            except Exception:
                await _let_go(request)
                raise
            write_amounts(response)
            if hold := getattr(request.state, "hold", None):
                await hold.settle(response)
            passed("request.before_answer")
            return response

        return handle_exactly


async def _refuse(request: Request, error: AppError) -> Response:
    """Answer an error; one that a key stands for is remembered like any answer."""
    hold: _Hold | None = getattr(request.state, "hold", None)
    if hold is None:
        raise error
    response = problem_of(request, error)
    await hold.refuse(response)
    return response


async def _let_go(request: Request) -> None:
    """Free a leased key after an unexpected failure, so that the client may try again at once."""
    hold: _Hold | None = getattr(request.state, "hold", None)
    if hold is not None and hold.work is not None:
        with suppress(Exception):
            async with hold.work.begin() as session:
                await hold.claim.release(session)


class AnswersHead:
    """Pure ASGI middleware: HEAD is answered as GET is; the server leaves out the body.

    So every path that has the one has the other (RFC 9110, section 9.3.2).
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}
        await self.app(scope, receive, send)


class _SignedRoute(_Route):
    """For bodies that a known sender signs: one in ten of its own long numbers has the form of a
    card's, its operator may have added a query to our address, and a body that is refused is
    lost."""

    refuses_card_numbers = False
    refuses_unknown_parameters = False


def router(*, signed: bool = False, **options: Any) -> APIRouter:
    """Return a router whose endpoints have Carnet's edge; `signed` ones verify who sends."""
    return APIRouter(route_class=_SignedRoute if signed else _Route, **options)
