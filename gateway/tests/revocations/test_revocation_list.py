"""Identity's list of revocations: what it adds, and when it is read."""

import asyncio
import json

import pytest
from joserfc import jwt

from gateway.revocations.revocation_feed import RevocationList
from gateway.revocations.revocation_store import RevocationStore
from gateway.tests.conftest import (
    INTERNAL_KEY,
    open_stack,
    raw_upstream,
    read_head,
    token,
)
from gateway.tests.revocations.broker_line import DEAD_BROKER
from gateway.tests.revocations.published_events import (
    becomes,
    status,
)
from shared.actors import Actor
from shared.errors import Unauthenticated
from shared.testing import until

pytestmark = pytest.mark.anyio


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
