"""Without the broker, without identity's list, and without both."""

import pytest

from gateway.tests.conftest import (
    DEAD,
    bearer,
    broker_url,
    open_stack,
    token,
)
from gateway.tests.revocations.broker_line import DEAD_BROKER, line_to_broker
from gateway.tests.revocations.published_events import (
    becomes,
    listening,
    publish,
    publisher,
    status,
)
from shared import bus
from shared.testing import until

pytestmark = pytest.mark.anyio


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


async def test_a_gateway_without_any_news_trusts_no_token_and_recovers() -> None:
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


async def test_a_gateway_that_never_received_anything_trusts_no_token() -> None:
    async with open_stack(blind=True, rabbitmq_url=DEAD_BROKER, identity_url=(DEAD,)) as stack:
        assert await status(stack, token()) == 503
        assert await status(stack, "forged") == 401
