"""A real gateway on a real port, in front of small upstream servers on loopback."""

import asyncio
import json
import os
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest
import uvicorn
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.app import Gateway, server_config
from gateway.routes import Service
from gateway.settings import Settings
from gateway.upstream.instance_resolver import system_resolve
from shared import broker_access

ISSUER, AUDIENCE = "carnet-test", "carnet-test-api"
SIGNING_KEY = ECKey.generate_key("P-256", parameters={"kid": "test-1"}, private=True)
JWKS = KeySet([SIGNING_KEY]).as_dict(private=False)

INTERNAL_KEY = ECKey.generate_key("P-256", parameters={"kid": "gateway"}, private=True)

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """The event loop that the gateway runs on: its transports differ from asyncio's own."""
    return "asyncio", {"use_uvloop": True}


def token(key: ECKey = SIGNING_KEY, header: dict[str, Any] | None = None, **claims: Any) -> str:
    """An access token as identity makes them, but for what a test changes."""
    now = int(time.time())
    body = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "7",
        "sid": "session-1",
        "role": "client",
        "iat": now,
        "exp": now + 600,
        **claims,
    }
    full = {"alg": "ES256", "typ": "at+jwt", "kid": "test-1", **(header or {})}
    return jwt.encode(full, body, key, algorithms=["ES256"])


def bearer(text: str | None = None) -> dict[str, str]:
    return {"Authorization": f"Bearer {text or token()}"}


class Identity:
    """The part of identity that the gateway asks on its own behalf: the list of revocations."""

    def __init__(self) -> None:
        self.sessions: list[str] = []
        self.users: dict[int, float] = {}
        self.organizations: list[int] = []
        self.reads: list[Scope] = []
        self.status = 200

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        self.reads.append(scope)
        answer = {
            "revoked_sessions": self.sessions,
            "users": self.users,
            "organizations": self.organizations,
        }
        body = json.dumps(answer).encode()
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class Recorder:
    """An upstream that remembers what reached it and answers what a test sets."""

    def __init__(self) -> None:
        self.identity = Identity()
        self.reset()

    def reset(self) -> None:
        self.requests: list[Scope] = []
        self.bodies: list[bytes] = []
        self.status = 200
        self.headers: list[tuple[bytes, bytes]] = [(b"content-type", b"application/json")]
        self.body = b'{"ok":true}'

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if scope["path"] == "/internal/revocations":
            await self.identity(scope, receive, send)
            return
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return  # only what arrived whole is a request
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        self.requests.append(scope)
        self.bodies.append(body)
        headers = [*self.headers]
        if self.status not in (204, 304):
            headers.append((b"content-length", str(len(self.body)).encode()))
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})

    @property
    def last_headers(self) -> dict[str, str]:
        pairs = self.requests[-1]["headers"]
        return {name.decode(): value.decode() for name, value in pairs}


def config_for(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(app, port=0, log_config=None, access_log=False, lifespan="off", ws="none")


@asynccontextmanager
async def running(config: uvicorn.Config) -> AsyncIterator[int]:
    """A uvicorn server in this event loop; yields its port."""
    config.port = 0
    config.timeout_graceful_shutdown = 1
    server = uvicorn.Server(config)
    task = asyncio.create_task(server._serve())
    while not (server.started or task.done()):
        await asyncio.sleep(0.005)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await task


@asynccontextmanager
async def raw_upstream(
    handler: Handler,
    host: str = "127.0.0.1",
    port: int = 0,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[str]:
    """A server that sends the bytes of a test; yields its address."""
    tasks: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await handler(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(accept, host, port, ssl=tls)
    try:
        yield f"http://{host}:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # uvloop waits for connections to close whose other end may be gone.
        with suppress(TimeoutError):
            async with asyncio.timeout(1):
                await server.wait_closed()


async def read_head(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


DEAD = "http://127.0.0.1:9"  # discard: nothing listens there


@dataclass
class Stack:
    """A gateway's port, a client of it, and the recording upstream behind all its services."""

    port: int
    client: httpx.AsyncClient
    upstream: Recorder
    gateway: Gateway

    async def raw(self, data: bytes) -> bytes:
        """Send bytes as they are, and read until the gateway closes. Raises TimeoutError."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(data)
        answer = b""
        try:
            async with asyncio.timeout(30):
                while piece := await reader.read(65536):
                    answer += piece
        except ConnectionError:
            pass
        finally:
            writer.close()
        return answer


def broker_url(user: str | None = None) -> str:
    """The virtual host of this test process, as the fixture `rabbitmq_url` names it."""
    number = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    url = f"{os.environ['CARNET_TEST_RABBITMQ_URL'].rstrip('/')}/test-{number}"
    return broker_access.broker_url(url, user) if user else url


def settings_for(default: str, **changes: Any) -> Settings:
    urls = {f"{service.value}_url": (default,) for service in Service}
    values: dict[str, Any] = {
        "jwks": json.dumps(JWKS),
        "token_issuer": ISSUER,
        "token_audience": AUDIENCE,
        "port": 0,
        "rabbitmq_url": broker_url("gateway"),
        "internal_key": json.dumps(INTERNAL_KEY.as_dict(private=True)),
        **urls,
        **changes,
    }
    if values.get("jwks_url"):
        values["jwks"] = None
    return Settings(**values)


@asynccontextmanager
async def open_stack(**changes: Any) -> AsyncIterator[Stack]:
    """A gateway with these settings, its upstream and its client.

    It is yielded once it has heard which tokens are revoked; with `blind=True` at once.
    """
    blind = changes.pop("blind", False)
    resolve = changes.pop("resolve", system_resolve)
    keep_alive = changes.pop("keep_alive", None)  # seconds
    recorder = Recorder()
    async with AsyncExitStack() as stack:
        upstream_port = await stack.enter_async_context(running(config_for(recorder)))
        settings = settings_for(f"http://127.0.0.1:{upstream_port}", **changes)
        gateway = Gateway(settings, resolve=resolve)
        config = server_config(gateway, settings)
        config.timeout_keep_alive = keep_alive or config.timeout_keep_alive
        port = await stack.enter_async_context(running(config))
        client = await stack.enter_async_context(
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10)
        )
        async with asyncio.timeout(30):
            while not (blind or gateway.revocations.is_current):
                await asyncio.sleep(0.005)
        yield Stack(port, client, recorder, gateway)


@pytest.fixture(scope="module")
async def standing_stack(anyio_backend: object) -> AsyncIterator[Stack]:
    async with open_stack() as opened:
        yield opened


@pytest.fixture
async def stack(standing_stack: Stack) -> AsyncIterator[Stack]:
    """The module's gateway with default settings, a fresh client and nothing recorded yet."""
    standing_stack.upstream.reset()
    address = f"http://127.0.0.1:{standing_stack.port}"
    async with httpx.AsyncClient(base_url=address, timeout=10) as client:
        yield replace(standing_stack, client=client)
