"""A card gateway that costs almost nothing, so that a measurement shows Carnet and not the double.

It answers from memory to what a purchase uses of Stripe's API: create, confirm, read and cancel a
payment intent. It accepts every card, and sends a signed webhook for each payment that succeeds.

    python -m deploy.proof.bench.card_double --port 8420 --webhook-url URL

The secret of the webhooks is in the environment variable CARD_GATEWAY_WEBHOOK_SECRET. Without a URL
it sends no webhooks.
"""

import argparse
import asyncio
import contextlib
import hashlib
import hmac
import itertools
import os
import time
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import parse_qsl, urlsplit

import httptools
import orjson
import uvloop

from deploy.local.card_gateway.program import SECRET_VARIABLE

WEBHOOK_CONNECTIONS = 4
DELAY_SECONDS = 0.5
"""The time from a success to its webhook. Stripe's arrive when the purchase is usually finished."""
RETRY_SECONDS = 1.0

Intent = dict[str, Any]
_EMPTY_LIST = {"object": "list", "data": [], "has_more": False, "url": "/v1/list"}
_UNKNOWN = {"error": {"type": "invalid_request_error", "message": "No such payment_intent."}}


class Intents:
    """The payment intents by id. `on_success` is called with each one that succeeds."""

    def __init__(self, on_success: Callable[[Intent], None]) -> None:
        self._on_success = on_success
        self._intents: dict[str, Intent] = {}
        self._numbers = itertools.count(1)
        self._prefix = f"pi_{time.time_ns():x}"

    def respond(self, method: str, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
        """Return status and body of the response to a request.

        Every list is empty, because the double stores no refunds and no events.
        """
        match path.strip("/").split("/")[1:]:
            case ["payment_intents"] if method == "POST":
                return 200, self._create(dict(parse_qsl(body.decode())))
            case ["payment_intents", intent_id, *actions]:
                intent = self._intents.get(intent_id)
                return (404, _UNKNOWN) if intent is None else (200, self._change(intent, actions))
        return 200, _EMPTY_LIST

    def _create(self, fields: dict[str, str]) -> Intent:
        intent_id = f"{self._prefix}_{next(self._numbers)}"
        intent: Intent = {
            "id": intent_id,
            "object": "payment_intent",
            "amount": int(fields["amount"]),
            "amount_received": 0,
            "currency": fields["currency"],
            "created": int(time.time()),
            "livemode": False,
            "metadata": {
                name.removeprefix("metadata[").removesuffix("]"): value
                for name, value in fields.items()
                if name.startswith("metadata[")
            },
            "payment_method": fields.get("payment_method"),
            "status": "requires_confirmation",
        }
        self._intents[intent_id] = intent
        return self._change(intent, ["confirm"] if fields.get("confirm") == "true" else [])

    def _change(self, intent: Intent, actions: list[str]) -> Intent:
        """Confirm or cancel an intent that is neither confirmed nor cancelled yet."""
        if intent["status"] == "requires_confirmation":
            if actions == ["confirm"]:
                intent |= {"status": "succeeded", "amount_received": intent["amount"]}
                self._on_success(intent)
            elif actions == ["cancel"]:
                intent["status"] = "canceled"
        return intent


class Webhooks:
    """Sends signed events over a few connections."""

    def __init__(self, url: str, secret: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._path = parts.path
        self._secret = secret.encode()
        self._waiting: asyncio.Queue[bytes] = asyncio.Queue()
        self._numbers = itertools.count(1)
        self._prefix = f"evt_{time.time_ns():x}"

    def send(self, intent: Intent) -> None:
        """Send an event with the present state of a payment intent that has succeeded, later."""
        event = {
            "id": f"{self._prefix}_{next(self._numbers)}",
            "object": "event",
            "type": "payment_intent.succeeded",
            "created": int(time.time()),
            "livemode": False,
            "data": {"object": intent},
        }
        body = orjson.dumps(event)
        asyncio.get_running_loop().call_later(DELAY_SECONDS, self._waiting.put_nowait, body)

    async def run(self) -> None:
        """Deliver events for ever."""
        await asyncio.gather(*(self._deliver() for _ in range(WEBHOOK_CONNECTIONS)))

    async def _deliver(self) -> None:
        """Deliver one event after another; repeat one that is refused or lost."""
        body = await self._waiting.get()
        while True:
            try:
                reader, writer = await asyncio.open_connection(self._host, self._port)
                with contextlib.closing(writer):
                    # The other side closes a connection that has been idle for some seconds.
                    while not reader.at_eof():
                        if await self._post(reader, writer, body):
                            body = await self._waiting.get()
                        else:
                            await asyncio.sleep(RETRY_SECONDS)
            except (OSError, EOFError):
                await asyncio.sleep(RETRY_SECONDS)

    async def _post(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes
    ) -> bool:
        """Send one event; return whether it was accepted."""
        moment = int(time.time())
        signature = hmac.new(self._secret, b"%d." % moment + body, hashlib.sha256).hexdigest()
        writer.write(
            f"POST {self._path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            f"Stripe-Signature: t={moment},v1={signature}\r\n\r\n".encode()
            + body
        )
        head = await reader.readuntil(b"\r\n\r\n")
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                await reader.readexactly(int(line.partition(b":")[2]))
        return head.split(b" ", 2)[1].startswith(b"2")


class CardProtocol(asyncio.Protocol):
    """Answers the requests of one connection."""

    _transport: asyncio.Transport

    def __init__(self, intents: Intents) -> None:
        self._intents = intents
        self._parser = httptools.HttpRequestParser(self)
        self._path = ""
        self._body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport for the responses."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Parse some bytes; those that are no valid request end the connection."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()

    def on_url(self, url: bytes) -> None:
        """Begin a request."""
        self._path = url.partition(b"?")[0].decode()
        self._body = b""

    def on_body(self, body: bytes) -> None:
        """Collect a part of the request's body."""
        self._body += body

    def on_message_complete(self) -> None:
        """Answer the complete request."""
        method = self._parser.get_method().decode()
        status, answer = self._intents.respond(method, self._path, self._body)
        content = orjson.dumps(answer)
        self._transport.write(
            b"HTTP/1.1 %d -\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
            % (status, len(content))
            + content
        )


async def serve(port: int, webhooks: Webhooks | None) -> None:
    """Serve for ever."""
    intents = Intents(webhooks.send if webhooks else lambda _: None)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: CardProtocol(intents), "127.0.0.1", port)
    async with server, asyncio.TaskGroup() as group:
        group.create_task(server.serve_forever())
        if webhooks:
            group.create_task(webhooks.run())


def main() -> None:
    """Run until SIGTERM."""
    parser = argparse.ArgumentParser(description="Run a card gateway that costs almost nothing.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--webhook-url")
    arguments = parser.parse_args()
    url = arguments.webhook_url
    webhooks = Webhooks(url, os.environ[SECRET_VARIABLE]) if url else None
    uvloop.run(serve(arguments.port, webhooks))


if __name__ == "__main__":
    main()
