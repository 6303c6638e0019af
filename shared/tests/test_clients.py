"""Calls between services over real sockets: instances in turn, and nothing asked twice."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from shared.clients import ServiceClients
from shared.errors import ServiceUnavailable
from shared.testing import Tokens, free_port
from shared.tests.conftest import ORIGIN
from shared.tokens import ServiceSigner

pytestmark = pytest.mark.anyio

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


class Peer:
    """A process that takes requests, notes them, and answers each with the same bytes."""

    def __init__(self, answer: bytes | None) -> None:
        self.answer = answer  # None: it never answers; empty: it hangs up instead
        self.asked: list[bytes] = []
        self.connections = 0
        self.port = 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await _head(reader):
                self.asked.append(head)
                if self.answer is None:
                    await reader.read()
                if not self.answer:
                    return
                writer.write(self.answer)
        finally:
            writer.close()


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""
    fields = (line.lower().partition(b":") for line in head.split(b"\r\n"))
    length = sum(int(value) for name, _, value in fields if name == b"content-length")
    return head + await reader.readexactly(length)


class Network:
    """Peers that listen, and clients that end, with the test."""

    def __init__(self, tokens: Tokens, stack: AsyncExitStack) -> None:
        self._signer = ServiceSigner(tokens.settings("vouchers")["internal_key"])
        self._stack = stack

    async def peer(self, answer: bytes | None = OK) -> Peer:
        peer = Peer(answer)
        server = await asyncio.start_server(peer.talk, "127.0.0.1")
        await self._stack.enter_async_context(server)
        peer.port = server.sockets[0].getsockname()[1]
        return peer

    def clients(self, addresses: str, timeout: float = 10) -> ServiceClients:
        made = ServiceClients(self._signer, {"payments": addresses}, timeout=timeout)
        self._stack.push_async_callback(made.aclose)
        return made


@pytest.fixture
async def network(tokens: Tokens) -> AsyncIterator[Network]:
    async with AsyncExitStack() as stack:
        yield Network(tokens, stack)


async def charge(clients: ServiceClients) -> int:
    answer = await clients.request("payments", "POST", "/internal/charges", ORIGIN, json={"a": 1})
    return answer.status_code


@pytest.fixture
def nobody() -> str:
    """The address of a port without a server."""
    return f"http://127.0.0.1:{free_port()}"


async def test_instances_take_turns_on_connections_that_are_kept(network: Network) -> None:
    one, two = await network.peer(), await network.peer()
    clients = network.clients(f"{one.address}, {two.address}/")
    for _ in range(6):
        assert await charge(clients) == 200
    assert (len(one.asked), len(two.asked)) == (3, 3)
    assert (one.connections, two.connections) == (1, 1)
    assert one.asked[0].startswith(b"POST /internal/charges HTTP/1.1\r\n")
    assert one.asked[0].endswith(b'{"a": 1}')


async def test_one_that_takes_no_connection_is_passed_over(network: Network, nobody: str) -> None:
    alive = await network.peer()
    clients = network.clients(f"{nobody},{alive.address}")
    for _ in range(4):
        assert await charge(clients) == 200
    assert len(alive.asked) == 4


async def test_where_no_instance_takes_a_connection_the_service_is_unavailable(
    network: Network, nobody: str
) -> None:
    with pytest.raises(ServiceUnavailable):
        await charge(network.clients(f"{nobody},{nobody}"))


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", b"not HTTP\r\n\r\n", None],
    ids=["hangs up", "in the middle of its answer", "nonsense", "silence"],
)
async def test_what_may_have_arrived_is_not_asked_again(
    network: Network, answer: bytes | None
) -> None:
    broken, other = await network.peer(answer), await network.peer()
    with pytest.raises(ServiceUnavailable):
        await charge(network.clients(f"{broken.address},{other.address}", timeout=2))
    assert len(broken.asked) == 1
    assert not other.asked


async def test_a_kept_connection_that_was_closed_is_opened_anew(network: Network) -> None:
    closing = await network.peer(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    clients = network.clients(closing.address)
    assert [await charge(clients) for _ in range(3)] == [200] * 3
    assert closing.connections == 3


@pytest.mark.parametrize("status", [400, 404, 409])
async def test_a_refusal_is_the_callers_to_read(network: Network, status: int) -> None:
    peer = await network.peer(OK.replace(b"200 OK", b"%d No" % status))
    assert await charge(network.clients(peer.address)) == status


async def test_a_servers_error_is_not_passed_on_nor_asked_elsewhere(network: Network) -> None:
    failing, other = await network.peer(OK.replace(b"200 OK", b"503 No")), await network.peer()
    with pytest.raises(ServiceUnavailable):
        await charge(network.clients(f"{failing.address},{other.address}"))
    assert not other.asked


async def test_a_service_without_an_address_is_refused_at_the_start(network: Network) -> None:
    with pytest.raises(ValueError, match="at least one address"):
        network.clients(" , ")
