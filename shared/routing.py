"""The route class of every endpoint: the checks of a request before its endpoint runs, and the
processing of the response after it."""

import re
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, get_type_hints

from fastapi import APIRouter, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.params import Body
from fastapi.routing import APIRoute
from starlette.routing import Match, compile_path
from starlette.types import Scope

from shared.auth import AllowedCallers, get_calling_service
from shared.card_numbers import refuse_card_numbers
from shared.denials import Denials
from shared.errors import AppError, Invalid, responses
from shared.failpoints import failpoint
from shared.idempotency import (
    HEADER,
    MAX_KEY_LENGTH,
    IdempotencyKeyReused,
    IdempotencyReplay,
    RequestInProgress,
    is_final,
)
from shared.json_reader import DuplicateKey, ExactRequest, MalformedJson
from shared.media_types import FORM, JSON, BodyTooLarge, UnsupportedMediaType, require_readable
from shared.money import write_amounts
from shared.openapi import with_headers
from shared.paging import requested_page
from shared.parameters import require_few, require_known, require_once
from shared.preconditions import TaggedResponse
from shared.problems import problem_of
from shared.sessions import settlement_of

Handle = Callable[[Request], Coroutine[Any, Any, Response]]

_KEY_PARAMETER = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": "Makes a repetition safe: the same key and body get the first response again",
    "schema": {
        "type": "string",
        "minLength": 1,
        "maxLength": MAX_KEY_LENGTH,
        "pattern": "^[!-~]([ -~]*[!-~])?$",
    },
}


def _calls(dependant: Dependant) -> Iterator[Any]:
    """Yield a route's endpoint and all of its dependencies."""
    yield dependant.call
    for inner in dependant.dependencies:
        yield from _calls(inner)


def _query_parameters(dependant: Dependant) -> Iterator[str]:
    """Yield the names of a route's query parameters, including those of its dependencies."""
    yield from (field.alias for field in dependant.query_params)
    for inner in dependant.dependencies:
        yield from _query_parameters(inner)


def _headers_on_success(endpoint: Callable[..., Any], calls: list[Any]) -> Iterator[str]:
    """Yield the headers of a response with a page or a tagged resource."""
    if requested_page in calls:
        yield "Link"
    if TaggedResponse in get_type_hints(endpoint, include_extras=True).values():
        yield "ETag"


class _Route(APIRoute):
    """Wraps every endpoint: the body has the route's type and a bounded size, parameters are known,
    numbers are exact, there is no card number, and a known Idempotency-Key gets its response again.
    """

    refuses_card_numbers = True
    refuses_unknown_parameters = True

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        calls = list(_calls(self.dependant))
        self._parameters = frozenset(_query_parameters(self.dependant))
        if self.refuses_unknown_parameters:
            self.responses = {**responses(Invalid), **self.responses}
        if get_calling_service in calls and not any(isinstance(c, AllowedCallers) for c in calls):
            raise TypeError(f"{path} names no callers: dependencies=[called_by(...)] is missing")
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
            status: with_headers(answer, "Idempotent-Replayed") if is_final(int(status)) else answer
            for status, answer in answers.items()
        }

    async def _read(self, request: ExactRequest) -> None:
        """Check the number and the names of parameters and the JSON body, before they are parsed.

        Raises Invalid, RequestValidationError, BodyTooLarge or MalformedJson.
        """
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
                write_amounts(response)
                if settlement := settlement_of(request):
                    await settlement.settle(response)
            except AppError as error:
                return await _refuse(request, error)
            except IdempotencyReplay as replay:
                return replay.record.response()
            except Exception:
                if settlement := settlement_of(request):
                    await settlement.abandon()
                raise
            failpoint("request.before_answer")
            return response

        return handle_exactly


async def _refuse(request: Request, error: AppError) -> Response:
    """Return an error's response, stored under the request's Idempotency-Key if it has one.

    Raises the error again if there is no key, or if the error is about the key itself: the key is
    another request's then.
    """
    denials: Denials = request.app.state.denials
    denials.count(request, error)
    settlement = settlement_of(request)
    if settlement is None or isinstance(error, RequestInProgress | IdempotencyKeyReused):
        raise error
    response = problem_of(request, error)
    try:
        await settlement.refuse(response)
    except IdempotencyReplay as replay:
        return replay.record.response()
    return response


class _SignedRoute(_Route):
    """For bodies that a known sender signs. One in ten of its own long numbers looks like a card
    number, its operator may have added a query to our address, and a refused body is lost.
    """

    refuses_card_numbers = False
    refuses_unknown_parameters = False


class _Router(APIRouter):
    """Tries its routes only for paths that begin with its prefix.

    A service has a hundred routes, and FastAPI tries those of all routers in turn.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        pattern, _, _ = compile_path(self.prefix)
        self._beginning = re.compile(pattern.pattern.removesuffix("$"))

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if self._beginning.match(scope["path"]) is None:
            return Match.NONE, {}
        return super().matches(scope)


def router(*, signed: bool = False, **options: Any) -> APIRouter:
    """Return a router with Carnet's route class; `signed`: its endpoints verify a signature."""
    return _Router(route_class=_SignedRoute if signed else _Route, **options)
