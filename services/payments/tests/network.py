"""A network that loses chosen requests or responses."""

import json
from collections.abc import Awaitable, Callable

import httpx

from shared.transport import PooledTransport

Chosen = Callable[[httpx.Request], bool]


def _nothing(_request: httpx.Request) -> bool:
    return False


async def _nobody(_request: httpx.Request) -> None:
    """Do nothing while an answer is under way."""


class Crash(BaseException):
    """The end of our process: no code catches it, and nothing is stored after it."""


class UnreliableNetwork(httpx.AsyncBaseTransport):
    """A transport that loses chosen requests, or the answers to them, and remembers all.

    With `crashing` our process ends where the loss would have been noticed. `meanwhile` is what
    others do after a request was answered and before the answer arrives.
    """

    def __init__(self) -> None:
        self._real = PooledTransport()
        self.lose_request: Chosen = _nothing
        self.lose_answer: Chosen = _nothing
        self.crashing = False
        self.meanwhile: Callable[[httpx.Request], Awaitable[None]] = _nobody
        self.requests: list[tuple[str, str]] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append((request.method, request.url.path))
        if self.lose_request(request):
            self._crash()
            raise httpx.ConnectError("lost on the way there", request=request)
        answer = await self._real.handle_async_request(request)
        await self.meanwhile(request)
        if self.lose_answer(request):
            await answer.aread()
            await answer.aclose()
            self._crash()
            raise httpx.ReadTimeout("lost on the way back", request=request)
        return answer

    def heal(self) -> None:
        """Lose nothing from now on."""
        self.lose_request = self.lose_answer = _nothing
        self.meanwhile = _nobody
        self.crashing = False

    def _crash(self) -> None:
        if self.crashing:
            raise Crash

    def confirmations(self) -> int:
        """Return how many charges were asked for."""
        return sum(path.endswith("/confirm") for _, path in self.requests)

    async def aclose(self) -> None:
        await self._real.aclose()


class SlowRefunds(httpx.AsyncBaseTransport):
    """Stripe with banks that take days, or fail: the local card gateway's
    refunds succeed at once.

    Every refund in a response has `status`. Of the intents in `garbled` the refunds are sent
    without their amounts.
    """

    def __init__(self, network: UnreliableNetwork) -> None:
        self._network = network
        self.status = "pending"
        self.garbled: set[str] = set()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await self._network.handle_async_request(request)
        body = json.loads(await answer.aread())
        if request.url.path.startswith("/v1/refunds"):
            for refund in body.get("data", [body]):
                refund["status"] = self.status
                if refund.get("payment_intent") in self.garbled:
                    del refund["amount"]
        return httpx.Response(answer.status_code, json=body)


def to_path(ending: str) -> Chosen:
    """Choose requests by the end of their path."""

    def chosen(request: httpx.Request) -> bool:
        return request.method == "POST" and request.url.path.endswith(ending)

    return chosen
