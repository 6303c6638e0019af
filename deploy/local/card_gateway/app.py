"""The HTTP server around `dispatch.py`, with the pages for people and the delivery of webhooks."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from html import escape

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from deploy.local.card_gateway import onboarding
from deploy.local.card_gateway.call import PLATFORM, Call
from deploy.local.card_gateway.control import BankAnswer, authenticate
from deploy.local.card_gateway.courier import Courier
from deploy.local.card_gateway.dispatch import ApiRequest, respond
from deploy.local.card_gateway.errors import StripeError
from deploy.local.card_gateway.forms import parse_form
from deploy.local.card_gateway.intents import AUTHENTICATION_PATH, intent_of_secret
from deploy.local.card_gateway.onboarding import ONBOARDING_PATH, error_page, html_page
from deploy.local.card_gateway.store import Store
from deploy.local.card_gateway.webhooks import EndpointCreate, register

_METHODS = ["GET", "POST", "DELETE", "PUT", "PATCH"]
_PAGE_METHODS = ["GET", "POST"]
_SEE_OTHER = 303


@dataclass(frozen=True)
class Endpoint:
    """A webhook endpoint that exists from the start. `connect`: for the connected accounts."""

    url: str
    secret: str
    events: tuple[str, ...] = ("*",)
    connect: bool = False


def create_app(
    store: Store,
    *,
    endpoints: tuple[Endpoint, ...] = (),
    public_url: str | None = None,
    webhook_delay: float = 0.0,
    transport: httpx.AsyncBaseTransport | None = None,
) -> Starlette:
    """Return the application.

    `public_url` is where people reach the pages, if that differs from the address of the API's
    clients. Webhooks are sent `webhook_delay` seconds after the event, by `transport`.
    """
    courier = Courier(store, transport)
    server = Server(store, courier, public_url, webhook_delay)
    for endpoint in endpoints:
        server.register(endpoint)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        deliveries = asyncio.create_task(courier.run(), name="deliveries")
        yield
        deliveries.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await deliveries

    return Starlette(
        routes=[
            Route(ONBOARDING_PATH + "/{id}", server.onboarding, methods=_PAGE_METHODS),
            Route(AUTHENTICATION_PATH + "/{secret}", server.authentication, methods=_PAGE_METHODS),
            Route("/{path:path}", server.api, methods=_METHODS),
        ],
        lifespan=lifespan,
    )


class Server:
    """The endpoints."""

    def __init__(
        self, store: Store, courier: Courier, public_url: str | None, webhook_delay: float
    ) -> None:
        self._store = store
        self._courier = courier
        self._public_url = public_url
        self._webhook_delay = webhook_delay

    def call(self, base_url: str) -> Call:
        """Return a call of this server itself, on the books of the platform."""
        return Call(
            store=self._store,
            book=PLATFORM,
            now=int(time.time()),
            base_url=base_url,
            api_version="2026-07-29.dahlia",
            webhook_delay=self._webhook_delay,
        )

    def register(self, endpoint: Endpoint) -> None:
        """Store an endpoint, or replace the one of the same kind."""
        body = EndpointCreate(
            url=endpoint.url, enabled_events=list(endpoint.events), connect=endpoint.connect
        )
        name = "we_LocalConnect" if endpoint.connect else "we_LocalPlatform"
        register(self.call(""), name, body, endpoint.secret)

    async def api(self, request: Request) -> Response:
        """Answer a request of the API."""
        api_request = ApiRequest(
            method=request.method,
            path=request.url.path,
            query=request.url.query,
            headers=request.headers,
            body=await request.body(),
            base_url=self._base_url(request),
        )
        answer = respond(self._store, api_request, webhook_delay=self._webhook_delay)
        self._courier.wake()
        return Response(answer.body, answer.status, answer.headers, "application/json")

    async def onboarding(self, request: Request) -> Response:
        """Show the page of an account link, or take the result that a person chose there."""
        call, identifier = self.call(self._base_url(request)), request.path_params["id"]
        try:
            fields = parse_form((await request.body()).decode())
            with self._store.transaction():
                if request.method == "POST":
                    target: str | None = onboarding.finish(call, identifier, fields)
                    page = ""
                else:
                    target, page = onboarding.visit(call, identifier)
        except StripeError as error:
            return HTMLResponse(error_page(error), error.status)
        self._courier.wake()
        return RedirectResponse(target, _SEE_OTHER) if target else HTMLResponse(page)

    async def authentication(self, request: Request) -> Response:
        """Show the bank's page of 3-D Secure, or take what the payer chose there."""
        call, secret = self.call(self._base_url(request)), request.path_params["secret"]
        target = request.query_params.get("return_url")
        try:
            if request.method == "GET":
                _, intent = intent_of_secret(call, secret)
                return HTMLResponse(_authentication_page(str(intent["id"])))
            fields = parse_form((await request.body()).decode())
            success = fields.get("success") == "true"
            with self._store.transaction():
                authenticate(call, BankAnswer(client_secret=secret, success=success), "")
        except StripeError as error:
            return HTMLResponse(error_page(error), error.status)
        self._courier.wake()
        page = html_page("3-D Secure", "<p>You may close this page.</p>")
        return RedirectResponse(target, _SEE_OTHER) if target else HTMLResponse(page)

    def _base_url(self, request: Request) -> str:
        return self._public_url or str(request.base_url).rstrip("/")


def _authentication_page(identifier: str) -> str:
    return html_page(
        "3-D Secure",
        f"<p>Payment {escape(identifier)}</p><form method=post>"
        '<p><button name="success" value="true">Complete authentication</button></p>'
        '<p><button name="success" value="false">Fail authentication</button></p></form>',
    )
