"""What happens when the client or the service of a request without a task is slow or leaves."""

import asyncio
import json

import pytest

from gateway.tests.conftest import bearer, open_stack, raw_upstream
from gateway.tests.direct import (
    OK,
    TOKEN,
    Call,
    Held,
    Service,
    behind,
    opened,
    places_taken,
    requests_under_way,
    standstill,
    warm_up,
)
from shared.testing import until

pytestmark = pytest.mark.anyio

REQUEST = Call().encode(in_task=False)


async def test_the_connection_of_a_client_that_left_is_never_used_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    service = Held()
    async with behind(service) as stack:
        await warm_up(stack)
        _, writer = await opened(stack)
        writer.write(REQUEST)
        await until(lambda: len(service.heads) == 1)
        assert service.tasks == [0]
        writer.close()
        await until(lambda: requests_under_way() == 0)
        service.permits.release()  # its answer is for nobody
        await until(lambda: service.left == 1)
        service.permits.release()
        response = await stack.client.get("/api/vouchers/1", headers=bearer(TOKEN))
        assert response.text == "02"
        assert service.connections == 2
    lines = [json.loads(x) for x in capsys.readouterr().out.splitlines() if '"access"' in x]
    assert [line["status"] for line in lines] == [200, 499, 200]


async def test_a_client_that_left_gives_its_place_back() -> None:
    service = Held()
    # One address may have as many places as it leaves free. One place is for calendar feeds alone.
    limits = {
        "in_flight_limit": 3,
        "sign_in_in_flight_limit": 1,
        "webhook_in_flight_limit": 1,
        "calendar_in_flight_limit": 1,
    }
    async with behind(service, **limits) as stack:
        await warm_up(stack)
        for number in range(1, 6):
            writers = [(await opened(stack))[1] for _ in range(2)]
            for writer in writers:
                writer.write(REQUEST)
            await until(lambda number=number: len(service.heads) == 2 * number)  # type: ignore[misc]
            busy = await stack.client.get("/api/vouchers/1", headers=bearer(TOKEN))
            assert (busy.status_code, busy.json()["code"]) == (503, "upstream_busy")
            for writer in writers:
                writer.close()
            await until(lambda: requests_under_way() == 0)
            assert places_taken(stack) == 0


async def test_pipelined_requests_are_answered_in_their_order() -> None:
    service = Held()
    async with behind(service) as stack:
        await warm_up(stack)
        reader, writer = await opened(stack)
        writer.write(REQUEST * 3)
        await until(lambda: len(service.heads) == 1)
        for number in (1, 2, 3):
            service.permits.release()
            await reader.readuntil(b"\r\n\r\n")
            assert await reader.readexactly(2) == b"%02d" % number
        writer.close()
    assert service.tasks == [1, 1, 1]  # only a task notices that the client disconnects


async def test_a_request_behind_one_without_a_task_may_be_refused() -> None:
    service = Held()
    async with behind(service) as stack:
        await warm_up(stack)
        reader, writer = await opened(stack)
        writer.write(REQUEST)
        await until(lambda: len(service.heads) == 1)
        writer.write(b"nonsense\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
        await until(lambda: requests_under_way() == 0)
        writer.close()
    assert len(service.heads) == 1


async def test_a_client_that_does_not_read_stops_the_service() -> None:
    """Without a task only what arrives at once is sent; a task waits for the client."""
    total, sent = 64 * 1024 * 1024, 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        while b"/warm-up" in await reader.readuntil(b"\r\n\r\n"):
            writer.write(OK)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
        while sent < total:
            writer.write(b"x" * 65536)
            sent += 65536
            await writer.drain()
        await reader.read()

    async with raw_upstream(handler) as url, open_stack(vouchers_url=(url,)) as stack:
        await warm_up(stack)
        reader, writer = await asyncio.open_connection("127.0.0.1", stack.port, limit=65536)
        writer.write(REQUEST)
        await reader.readuntil(b"\r\n\r\n")
        await standstill(lambda: sent, stack)
        assert sent < total // 2
        size = 0
        while size < total:
            size += len(await reader.read(1 << 20))
        assert sent == total
        writer.close()


async def test_small_answers_wait_for_a_client_that_does_not_read() -> None:
    """Answers that arrive whole are not collected in memory, either."""
    service = Service((b"HTTP/1.1 200 OK\r\nContent-Length: 30000\r\n\r\n" + b"x" * 30_000,))
    count = 2000
    async with behind(service, address_limit="10000/second", user_limit="10000/second") as stack:
        await warm_up(stack)
        reader, writer = await asyncio.open_connection("127.0.0.1", stack.port, limit=65536)
        writing = asyncio.ensure_future(_write_all(writer, REQUEST, count))
        await standstill(lambda: len(service.heads), stack)
        assert len(service.heads) < count
        for _ in range(count):
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(30_000)
        await writing
        writer.close()


async def _write_all(writer: asyncio.StreamWriter, request: bytes, count: int) -> None:
    for _ in range(count):
        writer.write(request)
        await writer.drain()


async def test_a_silent_service_is_given_up() -> None:
    async with behind(Held(), standard_timeout=0.2) as stack:
        await warm_up(stack)
        for _ in range(2):
            response = await stack.client.get("/api/vouchers/1", headers=bearer(TOKEN))
            assert (response.status_code, response.json()["code"]) == (504, "upstream_timed_out")


async def test_a_shorter_timeout_follows_a_longer_one_on_one_connection() -> None:
    service = Held()
    async with behind(service, standard_timeout=0.2, paying_timeout=30) as stack:
        await warm_up(stack)
        service.permits.release()
        await stack.client.post("/api/vouchers/purchase", headers=bearer(TOKEN))
        async with asyncio.timeout(10):
            response = await stack.client.get("/api/vouchers/1", headers=bearer(TOKEN))
        assert response.status_code == 504
        assert service.connections == 1


async def test_failures_open_the_circuit_and_an_answer_resets_their_number() -> None:
    service = Service((b"no HTTP\r\n\r\n", b""))
    async with behind(service, circuit_failures=3, circuit_pause=60) as stack:
        codes = []
        for pieces in ((b"no",), (b"no",), (OK,), (b"no",), (b"no",), (b"no",)):
            service.pieces = (*pieces, b"") if pieces != (OK,) else pieces
            codes.append(
                (await stack.client.get("/api/vouchers/1", headers=bearer(TOKEN))).status_code
            )
        assert codes == [502, 502, 200, 502, 502, 502]
        seen = len(service.heads)
        response = await stack.client.get("/api/vouchers/1", headers=bearer(TOKEN))
        assert response.status_code == 503
        assert len(service.heads) == seen


@pytest.mark.parametrize("cut", [1, 60, -3])
async def test_a_request_that_arrives_in_pieces_is_the_same_request(cut: int) -> None:
    service = Service()
    request = Call("POST", body=b'{"a":1}').encode(in_task=False)
    async with behind(service) as stack:
        await warm_up(stack)
        reader, writer = await opened(stack)
        writer.write(request[:cut])
        await writer.drain()
        await stack.client.get("/health")  # after what was sent before
        writer.write(request[cut:])
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        writer.close()
    assert service.bodies == [b'{"a":1}']
    # Only a body that arrives after its head needs a task.
    assert service.tasks == [1 if cut == -3 else 0]


async def test_a_body_that_is_expected_to_be_continued_needs_a_task() -> None:
    service = Service()
    head = Call("POST", headers=["Expect: 100-continue", "Content-Length: 2"]).encode(in_task=False)
    async with behind(service) as stack:
        await warm_up(stack)
        reader, writer = await opened(stack)
        writer.write(head)
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert service.heads == []
        writer.write(b"ok")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        writer.close()
    assert service.tasks == [1]
