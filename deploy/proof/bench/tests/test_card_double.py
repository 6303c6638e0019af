"""The double of the card gateway: our own client of Stripe's API accepts what it answers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal

import httpx
import pytest
from pydantic import SecretStr

from deploy.proof.bench.card_gateways import CardDouble, running_card_double
from deploy.proof.bench.environment import BenchEnvironment
from deploy.tests.stack.conftest import IN_ONE_PROCESS
from services.payments.gateways.protocol import (
    INSTALLATION_ACCOUNT,
    ChargeOrder,
    GatewayUnavailable,
    PaymentOutcome,
    PaymentReport,
)
from services.payments.gateways.stripe import StripeGateway, StripeSettings
from shared.testing import until

# One folder, one database and one port file serve all tests of the bench and of the stack.
pytestmark = [pytest.mark.anyio, IN_ONE_PROCESS]

ORDER = ChargeOrder(INSTALLATION_ACCOUNT, 17, 18, 19, Decimal("399.99"), "EUR", "Ten sessions")
CARD = SecretStr("pm_card_visa")


class Receiver:
    """An HTTP server that stores webhooks and answers with a status."""

    def __init__(self) -> None:
        self.webhooks: list[tuple[bytes, dict[str, str]]] = []
        self.status = 200

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request after another, until the other side ends."""
        while head := (await reader.readuntil(b"\r\n\r\n")).decode():
            headers = dict(line.lower().split(": ", 1) for line in head.splitlines()[1:] if line)
            body = await reader.readexactly(int(headers["content-length"]))
            self.webhooks.append((body, headers))
            writer.write(b"HTTP/1.1 %d -\r\nContent-Length: 2\r\n\r\n{}" % self.status)


@pytest.fixture
async def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
async def double(environment: BenchEnvironment, receiver: Receiver) -> AsyncIterator[CardDouble]:
    """The running program, which sends its webhooks to the receiver."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await receiver.serve(reader, writer)
        except asyncio.IncompleteReadError:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    async with server, running_card_double(environment, url) as double:
        yield double


@asynccontextmanager
async def client_of(double: CardDouble) -> AsyncIterator[StripeGateway]:
    """Open our own client of the card gateway."""
    settings = StripeSettings(
        api_base=double.url,
        api_key=SecretStr("sk_test_bench"),
        webhook_secret=SecretStr(double.webhook_secret),
    )
    gateway = StripeGateway(settings)
    try:
        yield gateway
    finally:
        await gateway.aclose()


async def test_an_intent_is_created_confirmed_and_read(double: CardDouble) -> None:
    async with client_of(double) as gateway:
        prepared = await gateway.prepare(ORDER, CARD)
        confirmed = await gateway.confirm(INSTALLATION_ACCOUNT, prepared.gateway_id)
        stored = await gateway.look_up(INSTALLATION_ACCOUNT, prepared.gateway_id)
        again = await gateway.confirm(INSTALLATION_ACCOUNT, prepared.gateway_id)
    assert (prepared.outcome, prepared.captured) == (PaymentOutcome.PREPARED, Decimal(0))
    assert (prepared.amount, prepared.currency) == (Decimal("399.99"), "EUR")
    assert prepared.transaction_id == 17
    assert (confirmed.outcome, confirmed.captured) == (PaymentOutcome.SUCCEEDED, ORDER.amount)
    assert confirmed == stored == again


async def test_an_intent_is_cancelled_unless_it_has_succeeded(double: CardDouble) -> None:
    async with client_of(double) as gateway:
        prepared = await gateway.prepare(ORDER, CARD)
        cancelled = await gateway.cancel(INSTALLATION_ACCOUNT, prepared.gateway_id)
        paid = await gateway.confirm(
            INSTALLATION_ACCOUNT, (await gateway.prepare(ORDER, CARD)).gateway_id
        )
        still_paid = await gateway.cancel(INSTALLATION_ACCOUNT, paid.gateway_id)
    assert cancelled.outcome is PaymentOutcome.CANCELLED
    assert still_paid.outcome is PaymentOutcome.SUCCEEDED


async def test_an_unknown_intent_and_empty_lists(double: CardDouble) -> None:
    async with client_of(double) as gateway:
        with pytest.raises(GatewayUnavailable):
            await gateway.look_up(INSTALLATION_ACCOUNT, "pi_unknown")
        assert [
            each async for each in gateway.events_since(INSTALLATION_ACCOUNT, datetime.now(UTC))
        ] == []
        assert await gateway.refunds_of(INSTALLATION_ACCOUNT, "pi_unknown") == []


async def test_what_is_no_request_ends_the_connection(double: CardDouble) -> None:
    port = httpx.URL(double.url).port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"this is not HTTP\r\n\r\n")
    assert await reader.read() == b""
    writer.close()
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"{double.url}/v1/payment_intents")).status_code == 200


async def test_a_success_is_announced_by_a_webhook_that_we_accept(
    double: CardDouble, receiver: Receiver
) -> None:
    async with client_of(double) as gateway:
        paid = await gateway.confirm(
            INSTALLATION_ACCOUNT, (await gateway.prepare(ORDER, CARD)).gateway_id
        )
        await until(lambda: bool(receiver.webhooks))
        body, headers = receiver.webhooks[0]
        notice = gateway.verify(body, headers, datetime.now(UTC))
        report = gateway.read(body)
    assert notice.type == "payment_intent.succeeded"
    assert isinstance(report, PaymentReport)
    assert (report.gateway_id, report.captured) == (paid.gateway_id, ORDER.amount)


async def test_a_refused_webhook_is_repeated(double: CardDouble, receiver: Receiver) -> None:
    receiver.status = 503
    async with client_of(double) as gateway:
        await gateway.confirm(INSTALLATION_ACCOUNT, (await gateway.prepare(ORDER, CARD)).gateway_id)
        await until(lambda: bool(receiver.webhooks))
        receiver.status = 200
        await until(lambda: len(receiver.webhooks) == 2)
        await gateway.confirm(INSTALLATION_ACCOUNT, (await gateway.prepare(ORDER, CARD)).gateway_id)
        await until(lambda: len(receiver.webhooks) == 3)
    bodies = [body for body, _ in receiver.webhooks]
    assert bodies[0] == bodies[1] != bodies[2]
