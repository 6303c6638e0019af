"""Revoked tokens stop at every gateway, whatever way the news came, and none passes blindly."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aio_pika.abc import AbstractExchange
from joserfc import jwt
from prometheus_client import REGISTRY
from uuid_utils import uuid7
from yarl import URL

from gateway.revocations.revocation_feed import RevocationList
from gateway.revocations.revocation_store import RETENTION, RevocationStore
from gateway.tests.conftest import (
    DEAD,
    INTERNAL_KEY,
    Stack,
    bearer,
    broker_url,
    open_stack,
    raw_upstream,
    read_head,
    token,
)
from shared import bus
from shared.actors import Actor
from shared.errors import Unauthenticated
from shared.events import Event
from shared.publishers import service_in
from shared.testing import until
from shared.tests.messages import message_of

pytestmark = pytest.mark.anyio

DEAD_BROKER = "amqp://127.0.0.1:9/"


@asynccontextmanager
async def publisher() -> AsyncIterator[AbstractExchange]:
    async with bus.connected(broker_url(), name="test") as broker:
        yield await bus.events_exchange(await broker.channel())


async def publish(
    exchange: AbstractExchange,
    event_type: str,
    entity: tuple[str, int],
    new_values: dict[str, Any],
    old_values: dict[str, Any] | None = None,
    *,
    version: int = 2,
    user: str | None = "",
) -> None:
    """Publish an event as its service's relay does, or in the name of another user or of none."""
    event = Event.model_validate(
        {
            "id": str(uuid7()),
            "source": f"carnet/{service_in(event_type)}",
            "type": event_type,
            "time": "2026-01-01T00:00:00Z",
            "subject": f"{entity[0]}/{entity[1]}",
            "data": {
                "action": "TEST",
                "entity_type": entity[0],
                "entity_id": entity[1],
                "entity_version": version,
                "organization_id": 3,
                "actor": {},
                "correlation_id": "test-0001",
                "old_values": old_values or {},
                "new_values": new_values,
            },
        }
    )
    message = message_of(event)
    if user != "":
        message.user_id = user
    await bus.publish(exchange, event_type, message)


async def status(stack: Stack, access_token: str) -> int:
    return (await stack.client.get("/api/vouchers/1", headers=bearer(access_token))).status_code


async def becomes(stack: Stack, access_token: str, expected: int, within: float = 30.0) -> None:
    """Wait until a token's requests are answered so; fails after `within` seconds."""
    deadline = time.monotonic() + within
    found = await status(stack, access_token)
    while found != expected and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
        found = await status(stack, access_token)
    assert found == expected


async def listening(*stacks: Stack) -> None:
    """Wait until the gateways have bound their queues and read the list afterwards."""
    await until(lambda: all(stack.gateway.revocation_feed.listening for stack in stacks))


async def test_an_ended_session_stops_at_every_gateway() -> None:
    ended, other = token(sid="ended"), token(sid="other")
    async with open_stack() as one, open_stack() as two, publisher() as exchange:
        await listening(one, two)
        assert [await status(stack, ended) for stack in (one, two)] == [200, 200]
        changes = {"ended_sessions": ["ended"]}
        await publish(exchange, "identity.user.logged_out.v1", ("user", 7), changes)
        for stack in (one, two):
            await becomes(stack, ended, 401)
            assert await status(stack, other) == 200


async def test_a_changed_user_needs_a_new_token() -> None:
    issued = round(time.time(), 3)
    before, after = token(iat=issued - 0.001), token(iat=issued)
    somebody_elses = token(sub="8", iat=issued - 1)
    async with open_stack() as stack, publisher() as exchange:
        await listening(stack)
        assert await status(stack, before) == 200
        changes = {"tokens_not_before": issued, "is_active": False}
        await publish(exchange, "identity.user.updated.v1", ("user", 7), changes)
        await becomes(stack, before, 401)
        assert await status(stack, after) == 200
        assert await status(stack, somebody_elses) == 200


@pytest.mark.parametrize("moved_to", ["old_values", "new_values"])
async def test_a_changed_permission_counts_for_its_user(moved_to: str) -> None:
    held = token(iat=time.time() - 1)
    new_values: dict[str, Any] = {"tokens_not_before": round(time.time(), 3)}
    values: dict[str, dict[str, Any]] = {"old_values": {}, "new_values": new_values}
    values[moved_to]["user_id"] = 7
    async with open_stack() as stack, publisher() as exchange:
        await listening(stack)
        event_type, entity = "identity.permission.revoked.v1", ("permission", 99)
        await publish(
            exchange, event_type, entity, values["new_values"], old_values=values["old_values"]
        )
        await becomes(stack, held, 401)


async def test_a_closed_organization_and_its_return() -> None:
    members, others = token(organization_id=3), token(organization_id=4)
    async with open_stack() as stack, publisher() as exchange:
        await listening(stack)
        closed, updated = (
            f"organizations.organization.{what}.v1" for what in ("deactivated", "updated")
        )
        await publish(exchange, closed, ("organization", 3), {"is_active": False})
        await becomes(stack, members, 401)
        assert await status(stack, others) == 200
        await publish(exchange, updated, ("organization", 3), {"name": "renamed"})
        await publish(exchange, updated, ("organization", 4), {"is_active": False})
        await becomes(stack, others, 401)
        assert await status(stack, members) == 401
        await publish(exchange, updated, ("organization", 3), {"is_active": True}, version=3)
        await becomes(stack, members, 200)


async def test_events_that_cannot_be_understood_do_not_stop_the_feed() -> None:
    held = token(sid="ended")
    async with open_stack() as stack, publisher() as exchange:
        await listening(stack)
        key = "identity.user.updated.v1"
        await bus.publish(exchange, key, bus.persistent(b"not json", "1", user="identity"))
        await publish(exchange, key, ("user", 7), {"tokens_not_before": "never"})
        await publish(exchange, key, ("user", 7), {"ended_sessions": ["ended"]})
        await becomes(stack, held, 401)


def forged_messages() -> float:
    queue = {"queue": "gateway.revocations"}
    return REGISTRY.get_sample_value("carnet_messages_forged_total", queue) or 0.0


async def test_an_event_of_another_user_revokes_nothing_and_is_alarmed_of() -> None:
    held = token(sid="kept")
    async with open_stack() as stack, publisher() as exchange:
        await listening(stack)
        forged = forged_messages()
        kind, changes = "identity.user.logged_out.v1", {"ended_sessions": ["kept"]}
        for user in ("vouchers", None):
            await publish(exchange, kind, ("user", 7), changes, user=user)
        await until(lambda: forged_messages() >= forged + 2)
        assert await status(stack, held) == 200
        await publish(exchange, kind, ("user", 7), changes)
        await becomes(stack, held, 401)


async def test_void_tokens_of_the_list_are_refused() -> None:
    async with open_stack(rabbitmq_url=DEAD_BROKER) as stack:
        identity = stack.upstream.identity
        identity.sessions, identity.users, identity.organizations = ["ended"], {8: 2e9}, [3]
        await becomes(stack, token(sid="ended"), 401)
        assert await status(stack, token(sub="8")) == 401
        assert await status(stack, token(organization_id=3)) == 401
        assert await status(stack, token()) == 200
    read = identity.reads[-1]
    authorization = dict(read["headers"])[b"authorization"].removeprefix(b"Bearer ").decode()
    decoded = jwt.decode(authorization, INTERNAL_KEY, algorithms=["ES256"])
    assert decoded.header["typ"] == "service+jwt"
    assert decoded.claims["aud"] == "identity"
    assert decoded.claims["iss"] == "gateway"


class Line:
    """A line to the broker that a test can cut, or keep silent without cutting it."""

    def __init__(self) -> None:
        self.open = True
        self._writers: set[asyncio.StreamWriter] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()

    def cut(self) -> None:
        """End every connection, and the next ones at once."""
        self.open = False
        for writer in tuple(self._writers):
            writer.transport.abort()

    def freeze(self) -> None:
        """Let nothing through any more, while every connection stays."""
        self._flowing.clear()

    def mend(self) -> None:
        """Be a line again."""
        self.open = True
        self._flowing.set()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Connect one client to the broker."""
        if not self.open:
            return
        broker = URL(broker_url())
        assert broker.host is not None
        far_reader, far_writer = await asyncio.open_connection(broker.host, broker.port)
        self._writers |= {writer, far_writer}
        ways = [self._copy(reader, far_writer), self._copy(far_reader, writer)]
        tasks = [asyncio.ensure_future(way) for way in ways]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._writers -= {writer, far_writer}
            far_writer.close()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(65536):
            await self._flowing.wait()
            writer.write(piece)


@asynccontextmanager
async def line_to_broker() -> AsyncIterator[tuple[Line, str]]:
    line = Line()
    async with raw_upstream(line.carry) as address:
        port = URL(address).port
        yield line, str(URL(broker_url()).with_host("127.0.0.1").with_port(port))


async def test_what_was_missed_while_the_broker_was_away_is_read_from_the_list() -> None:
    held, later = token(sid="ended"), token(sid="later")
    async with line_to_broker() as (line, url), open_stack(rabbitmq_url=url) as stack:
        await listening(stack)
        line.cut()
        await until(lambda: not stack.gateway.revocation_feed.listening)
        stack.upstream.identity.sessions = ["ended"]
        await becomes(stack, held, 401)
        line.mend()
        await listening(stack)
        async with publisher() as exchange:
            changes = {"ended_sessions": ["later"]}
            await publish(exchange, "identity.user.logged_out.v1", ("user", 7), changes)
        await becomes(stack, later, 401)


async def test_a_gateway_that_reconnects_needs_no_list_from_an_overloaded_identity() -> None:
    ended, other = token(sid="ended"), token(sid="other")
    async with (
        line_to_broker() as (line, url),
        open_stack(rabbitmq_url=url, blind_limit=3) as stack,
    ):
        await listening(stack)
        stack.upstream.identity.status = 503
        line.cut()
        await until(lambda: not stack.gateway.revocation_feed.listening)
        async with publisher() as exchange:
            changes = {"ended_sessions": ["ended"]}
            await publish(exchange, "identity.user.logged_out.v1", ("user", 7), changes)
        await becomes(stack, other, 503)  # without the broker and without the list it is blind
        line.mend()
        await becomes(stack, other, 200)
        assert await status(stack, ended) == 401, "the queue kept what was published meanwhile"


async def test_a_queue_that_is_gone_is_made_again_and_the_list_read() -> None:
    ended = token(sid="ended")
    async with open_stack() as stack:
        await listening(stack)
        reads = len(stack.upstream.identity.reads)
        async with bus.connected(broker_url(), name="test") as broker:
            channel = await broker.channel()
            stack.upstream.identity.sessions = ["ended"]
            await channel.queue_delete(stack.gateway.revocation_feed.queue_name)
        await until(lambda: len(stack.upstream.identity.reads) > reads)
        await becomes(stack, ended, 401)
        await listening(stack)


async def test_the_list_is_read_although_the_circuit_is_open() -> None:
    lists = 0

    async def overloaded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal lists
        head = await read_head(reader)
        if b"/internal/revocations" in head:
            lists += 1
            body = b'{"revoked_sessions": [], "users": {}, "organizations": []}'
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    circuit = {"circuit_failures": 2, "circuit_pause": 600}
    async with (
        raw_upstream(overloaded) as url,
        open_stack(identity_url=(url,), rabbitmq_url=DEAD_BROKER, **circuit) as stack,
    ):
        statuses = [
            (await stack.client.post("/api/auth/login", content=b"{}")).status_code
            for _ in range(3)
        ]
        assert statuses == [502, 502, 503]
        before = lists
        await until(lambda: lists >= before + 2)
        assert await status(stack, token()) == 200


async def test_a_gateway_without_any_news_trusts_nobody_and_recovers() -> None:
    async with (
        line_to_broker() as (line, url),
        open_stack(rabbitmq_url=url, blind_limit=3) as stack,
    ):
        await listening(stack)
        stack.upstream.identity.status = 503
        line.freeze()
        assert await status(stack, token()) == 200
        await becomes(stack, token(), 503)
        refused = await stack.client.get("/api/vouchers/1", headers=bearer())
        assert refused.json()["code"] == "revocations_unknown"
        assert refused.headers["retry-after"].isdigit()
        assert (await stack.client.post("/api/auth/login", content=b"{}")).status_code == 200
        ready = await stack.client.get("/health/ready")
        assert "revocations" in ready.json()["missing"]
        stack.upstream.identity.status = 200
        await becomes(stack, token(), 200)


async def test_a_gateway_that_never_heard_anything_trusts_nobody() -> None:
    async with open_stack(blind=True, rabbitmq_url=DEAD_BROKER, identity_url=(DEAD,)) as stack:
        assert await status(stack, token()) == 503
        assert await status(stack, "forged") == 401


async def test_a_list_that_is_not_one_is_no_news() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    async with (
        raw_upstream(handler) as url,
        open_stack(blind=True, rabbitmq_url=DEAD_BROKER, identity_url=(url,)) as stack,
    ):
        await asyncio.sleep(0.1)
        assert await status(stack, token()) == 503


def test_entries_are_forgotten_once_their_tokens_have_run_out() -> None:
    now = 0.0
    revocations = RevocationStore(blind_limit=30, clock=lambda: now)
    actor = Actor(7, "client", 3, session_id="ended", issued_at=99.0)
    revocations.end_sessions(["ended"])
    now = RETENTION - 1
    revocations.confirm_current(now)
    with pytest.raises(Unauthenticated):
        revocations.check(actor)
    now = RETENTION + 1
    revocations.confirm_current(now)
    revocations.check(actor)


def test_an_entry_that_is_noted_again_lasts_longer() -> None:
    now = 0.0
    revocations = RevocationStore(blind_limit=30, clock=lambda: now)
    revocations.revoke_user_tokens_before(7, 100.0)
    now = RETENTION - 1
    revocations.revoke_user_tokens_before(7, 50.0)
    now = RETENTION + 1
    revocations.confirm_current(now)
    with pytest.raises(Unauthenticated):
        revocations.check(Actor(7, "client", issued_at=99.0))


def _is_open(revocations: RevocationStore) -> bool:
    revocations.confirm_current(0.0)
    try:
        revocations.check(Actor(7, "client", 3))
    except Unauthenticated:
        return False
    return True


def _list(versions: dict[int, int]) -> RevocationList:
    answer = {
        "revoked_sessions": [],
        "users": {},
        "organizations": [3],
        "organization_versions": versions,
    }
    return RevocationList.model_validate_json(json.dumps(answer))


def test_a_list_that_lags_behind_the_events_does_not_close_an_organization_again() -> None:
    revocations = RevocationStore(blind_limit=30, clock=lambda: 0.0)
    revocations.close_organization(3, 5)
    assert not _is_open(revocations)
    revocations.reopen_organization(3, 6)
    _list({3: 5}).apply_to(revocations)
    assert _is_open(revocations)
    _list({3: 7}).apply_to(revocations)
    assert not _is_open(revocations), "it closed a second time, and only the list tells"


def test_a_closed_organization_stays_closed_when_in_doubt() -> None:
    revocations = RevocationStore(blind_limit=30, clock=lambda: 0.0)
    _list({3: 7}).apply_to(revocations)
    revocations.reopen_organization(3, 6)
    assert not _is_open(revocations), "the event is older than what the list tells"
    revocations.reopen_organization(3, 8)
    assert _is_open(revocations)
    _list({}).apply_to(revocations)
    assert not _is_open(revocations), "an identity that tells no versions"


def test_the_bound_of_blindness() -> None:
    now = 1000.0
    revocations = RevocationStore(blind_limit=30, clock=lambda: now)
    assert not revocations.is_current
    revocations.confirm_current(now)
    now += 30
    assert revocations.is_current
    now += 0.1
    assert not revocations.is_current
