"""The two connections of a request without a task: when they end, and what shares them."""

import asyncio
import os
import socket

import pytest

from gateway.tests.direct import (
    CLOSE,
    OK,
    Call,
    Held,
    Outcome,
    Service,
    behind,
    opened,
    outcome_of,
    places_taken,
    requests_under_way,
    warm_up,
)
from shared.testing import until

pytestmark = pytest.mark.anyio

REQUEST = Call().encode(in_task=False)
IN_TASK = Call().encode(in_task=True)


async def test_a_pipelined_request_may_last_longer_than_a_connection_may_be_idle() -> None:
    service = Held()
    async with behind(service, keep_alive=1) as stack:
        await warm_up(stack)
        reader, writer = await opened(stack)
        writer.write(REQUEST)
        service.permits.release()
        await reader.readuntil(b"\r\n\r\n01")  # starts the timer of the idle connection
        writer.write(REQUEST * 2)
        service.permits.release()
        await reader.readuntil(b"\r\n\r\n02")
        await until(lambda: len(service.heads) == 3)
        other_reader, other_writer = await opened(stack)
        other_writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        await other_reader.read()  # until that connection was idle for too long
        other_writer.close()
        service.permits.release()
        await reader.readuntil(b"\r\n\r\n03")
        writer.close()


@pytest.mark.parametrize("target", ["/é", "http://gateway", "http:///x", "/%e9", "/a#b"])
async def test_a_target_is_treated_the_same_before_and_after_its_body(target: str) -> None:
    """Without its body a request begins at the end of the received data, outside of the parser."""
    head = f"POST {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\n"
    statuses = []
    async with behind(Service()) as stack:
        for first in (head.encode(), head.encode() + b"{}"):
            reader, writer = await opened(stack)
            writer.write(first)
            await writer.drain()
            await stack.client.get("/health")  # after what was sent before
            writer.write(b"" if first.endswith(b"{}") else b"{}")
            statuses.append((await reader.read())[9:12])
            writer.close()
    assert statuses[0] == statuses[1] != b""


async def test_a_connection_that_the_service_has_just_closed_is_not_used() -> None:
    """The end and the next request arrive in the same turn of the event loop, the end first."""
    sockets = []

    class Closing(Service):
        async def __call__(
            self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            descriptor = writer.get_extra_info("socket").fileno()
            sockets.append(socket.socket(fileno=os.dup(descriptor)))
            await super().__call__(reader, writer)

    service = Closing()
    async with behind(service) as stack:
        await warm_up(stack)
        client = socket.create_connection(("127.0.0.1", stack.port))
        await stack.client.get("/health")  # the gateway has accepted the connection
        sockets[0].shutdown(socket.SHUT_WR)
        client.sendall(Call("POST", body=b"{}").encode(in_task=False))
        reader, writer = await asyncio.open_connection(sock=client)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        writer.close()
        for duplicate in sockets:
            duplicate.close()
    assert service.connections == 2


CALLS = {
    "GET": (Call(), 200),
    "HEAD": (Call("HEAD"), 200),
    "POST": (Call("POST", body=b"{}"), 502),
    "POST with a key": (Call("POST", headers=["Idempotency-Key: key-00001"], body=b"{}"), 200),
    "PUT with a key": (Call("PUT", headers=["Idempotency-Key: key-00001"], body=b"{}"), 502),
    "PATCH": (Call("PATCH"), 502),
    "DELETE": (Call("DELETE"), 502),
    "GET with a body": (Call(body=b"{}"), 502),
}


@pytest.mark.parametrize(("call", "status"), CALLS.values(), ids=CALLS.keys())
async def test_a_request_whose_connection_ends_is_repeated_by_the_same_rules(
    call: Call, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes: list[Outcome] = []
    for in_task in (False, True):
        service = Service((CLOSE,), (OK.removesuffix(b"ok") if call.method == "HEAD" else OK,))
        async with behind(service) as stack:
            await warm_up(stack)
            request = call.encode(in_task=in_task)
            outcomes.append(await outcome_of(request, stack, service, capsys))
    assert outcomes[0] == outcomes[1]
    assert outcomes[0].lines[0]["status"] == status
    assert len(outcomes[0].heads) == (2 if status == 200 else 1)


@pytest.mark.parametrize("request_bytes", [REQUEST, IN_TASK], ids=["direct", "in a task"])
async def test_a_client_that_left_stops_its_request_before_a_pipelined_one(
    request_bytes: bytes,
) -> None:
    service = Held()
    async with behind(service, standard_timeout=300) as stack:
        await warm_up(stack)
        _, writer = await opened(stack)
        writer.write(request_bytes * 2)
        await until(lambda: len(service.heads) == 1)
        writer.close()
        await until(lambda: requests_under_way() == 0)
        assert places_taken(stack) == 0
        service.permits.release()
        await until(lambda: service.left == 1)
    assert len(service.heads) == 1


async def test_a_client_that_left_during_the_answer_stops_the_service() -> None:
    service = Service((b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",))
    async with behind(service) as stack:
        await warm_up(stack)
        reader, writer = await opened(stack)
        writer.write(REQUEST)
        await reader.readuntil(b"half")
        writer.close()
        await until(lambda: service.left == 1)
        await until(lambda: requests_under_way() == 0)
        assert places_taken(stack) == 0


@pytest.mark.parametrize("behind_it", [b"", REQUEST], ids=["next", "behind another request"])
async def test_a_refusal_is_never_a_part_of_another_answer(behind_it: bytes) -> None:
    service = Service((b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\nhalf",))
    async with behind(service) as stack:
        await warm_up(stack)
        reader, writer = await opened(stack)
        writer.write(REQUEST)
        await reader.readuntil(b"half")
        writer.write(behind_it + b"nonsense\r\n\r\n")
        assert await reader.read() == b""
        writer.close()
        await until(lambda: requests_under_way() == 0)


async def test_connections_are_shared_by_both_paths() -> None:
    service = Service()
    async with behind(service) as stack:
        await warm_up(stack)
        reader, writer = await opened(stack)
        for request in (REQUEST, IN_TASK, REQUEST, REQUEST, IN_TASK):
            writer.write(request)
            await reader.readuntil(b"\r\n\r\nok")
        writer.close()
    assert service.tasks == [0, 1, 0, 0, 1]
    assert service.connections == 1
