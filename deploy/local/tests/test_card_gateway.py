"""The card gateway keeps its state in the data folder and sends signed webhooks."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import stripe

from deploy.local.card_gateway.program import card_gateway_program
from deploy.local.ports import Ports
from deploy.local.supervisor import Supervisor
from shared.testing import until

pytestmark = pytest.mark.anyio

SECRET, CONNECT_SECRET = "whsec_test", "whsec_connect_test"


class Receiver:
    """An HTTP server that keeps the webhooks it gets."""

    def __init__(self) -> None:
        self.received: list[tuple[bytes, str]] = []
        self.url = ""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take one request."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        headers = dict(line.lower().split(": ", 1) for line in head.splitlines()[1:] if line)
        body = await reader.readexactly(int(headers["content-length"]))
        self.received.append((body, headers["stripe-signature"]))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()
        await writer.wait_closed()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A running receiver of webhooks."""
    receiver = Receiver()
    server = await asyncio.start_server(receiver.answer, "127.0.0.1", 0)
    async with server:
        receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
        yield receiver


async def test_payments_are_kept_through_a_restart_and_announced(
    tmp_path: Path, supervisor: Supervisor, receiver: Receiver
) -> None:
    port = Ports(tmp_path / "ports.json").choose("card-gateway")
    await supervisor.start(
        card_gateway_program(tmp_path, port, webhook_url=receiver.url, webhook_secret=SECRET)
    )
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}", auth=("sk_test_x", "")
    ) as client:
        await until(lambda: answers(client), seconds=20)
        intent = await pay(client)
        await until(lambda: has_received(receiver))
        supervisor.kill("card-gateway", signal.SIGTERM)
        await supervisor.wait_for_start("card-gateway", 2)
        await until(lambda: answers(client), seconds=20)
        kept = await client.get(f"/v1/payment_intents/{intent}")
    assert kept.json()["status"] == "succeeded"
    body, signature = receiver.received[0]
    stripe.WebhookSignature.verify_header(body.decode(), signature, SECRET)
    assert json.loads(body)["type"] == "payment_intent.succeeded"


async def test_a_killed_gateway_keeps_what_it_has_answered_and_still_reports_it(
    tmp_path: Path, supervisor: Supervisor, receiver: Receiver
) -> None:
    port = Ports(tmp_path / "ports.json").choose("card-gateway")
    await supervisor.start(
        card_gateway_program(
            tmp_path,
            port,
            webhook_url="http://127.0.0.1:9/none",
            webhook_secret=SECRET,
            connect_url=receiver.url,
            connect_secret=CONNECT_SECRET,
        )
    )
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}", auth=("sk_test_x", "")
    ) as client:
        await until(lambda: answers(client), seconds=20)
        account = (await client.post("/v1/accounts", data={"type": "standard"})).json()["id"]
        await client.post(f"/_test/accounts/{account}", data={"outcome": "complete"})
        supervisor.kill("card-gateway", signal.SIGKILL)
        await supervisor.wait_for_start("card-gateway", 2)
        await until(lambda: answers(client), seconds=20)
        stored = await client.get("/v1/account", headers={"Stripe-Account": account})
        await until(lambda: has_received(receiver))
    assert stored.json()["charges_enabled"] is True
    body, signature = receiver.received[0]
    stripe.WebhookSignature.verify_header(body.decode(), signature, CONNECT_SECRET)
    event = json.loads(body)
    assert (event["type"], event["account"]) == ("account.updated", account)


async def answers(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/v1/customers")).status_code == 200
    except httpx.TransportError:
        return False


async def has_received(receiver: Receiver) -> bool:
    return bool(receiver.received)


async def pay(client: httpx.AsyncClient) -> str:
    intent = await client.post(
        "/v1/payment_intents",
        data={
            "amount": "39999",
            "currency": "eur",
            "payment_method": "pm_card_visa",
            "confirm": "true",
        },
    )
    assert intent.status_code == 200, intent.text
    return str(intent.json()["id"])
