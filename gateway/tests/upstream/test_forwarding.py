"""Forwarding: bytes pass unchanged in both directions, and what happens when a side breaks."""

import asyncio
from functools import partial
from itertools import islice

import httpx
import pytest

from gateway.tests.conftest import DEAD, Stack, bearer, open_stack, raw_upstream, read_head

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "target",
    [
        "/api/vouchers/12",
        "/api/vouchers/12?a=b&a=c&empty=&%7Eq=%20+%2F%zz&utf=%C3%A9",
        "/api/vouchers/a%20b?x=1",
        "/api/vouchers/12?q=../..//;x=%00{}|\"'",
        "/api/vouchers/~x.y-z_(1)!,@:$&=+*",
    ],
)
async def test_path_and_query_pass_byte_for_byte(stack: Stack, target: str) -> None:
    head = f"GET {target} HTTP/1.1\r\nHost: x\r\nAuthorization: {bearer()['Authorization']}\r\n"
    answer = await stack.raw(f"{head}Connection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 200")
    scope = stack.upstream.requests[-1]
    query = scope["query_string"]
    assert scope["raw_path"] + (b"?" + query if query else b"") == target.encode()


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_every_method_passes_with_its_body(stack: Stack, method: str) -> None:
    response = await stack.client.request(
        method, "/api/vouchers/1", content=b"\x00body\xff", headers=bearer()
    )
    assert response.status_code == 200
    assert stack.upstream.requests[-1]["method"] == method
    assert stack.upstream.bodies[-1] == b"\x00body\xff"


async def test_a_post_without_a_body_states_its_length(stack: Stack) -> None:
    await stack.client.post("/api/vouchers/1/cancel", headers=bearer())
    assert stack.upstream.last_headers["content-length"] == "0"
    assert "content-type" not in stack.upstream.last_headers


async def test_a_chunked_body_passes(stack: Stack) -> None:
    async def pieces() -> object:
        for number in range(50):
            yield bytes([number]) * 1000
            await asyncio.sleep(0)

    response = await stack.client.post("/api/vouchers/purchase", content=pieces(), headers=bearer())  # type: ignore[arg-type]
    assert response.status_code == 200
    assert stack.upstream.bodies[-1] == b"".join(bytes([n]) * 1000 for n in range(50))


async def test_a_large_body_with_a_length_keeps_its_length(stack: Stack) -> None:
    body = b"x" * 1_000_000
    response = await stack.client.post("/api/vouchers/purchase", content=body, headers=bearer())
    assert response.status_code == 200
    assert stack.upstream.bodies[-1] == body
    assert stack.upstream.last_headers["content-length"] == "1000000"
    assert "transfer-encoding" not in stack.upstream.last_headers


async def test_expect_continue_is_answered_by_the_gateway(stack: Stack) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", stack.port)
    writer.write(
        b"POST /api/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n"
        b"Expect: 100-continue\r\nConnection: close\r\n\r\n"
    )
    assert await read_head(reader) == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"body")
    assert (await reader.read()).startswith(b"HTTP/1.1 200")
    assert stack.upstream.bodies[-1] == b"body"
    assert "expect" not in stack.upstream.last_headers
    writer.close()


async def test_refused_requests_are_not_invited_to_send_their_body(stack: Stack) -> None:
    answer = await stack.raw(
        b"POST /api/vouchers/purchase HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n"
        b"Expect: 100-continue\r\nConnection: close\r\n\r\n"
    )
    assert answer.startswith(b"HTTP/1.1 401")


@pytest.mark.parametrize("status", [200, 201, 302, 404, 409, 500])
async def test_status_and_body_come_back(stack: Stack, status: int) -> None:
    stack.upstream.status = status
    stack.upstream.headers = [(b"location", b"http://elsewhere/x"), (b"etag", b'"1"')]
    response = await stack.client.get("/api/vouchers/1", headers=bearer())
    assert response.status_code == status
    assert response.headers["location"] == "http://elsewhere/x"
    assert response.content == stack.upstream.body


@pytest.mark.parametrize("status", [200, 201, 204, 404, 500])
async def test_no_cache_stores_an_answer_without_a_header_of_its_service(
    stack: Stack, status: int
) -> None:
    stack.upstream.status = status
    response = await stack.client.get("/api/vouchers/1", headers=bearer())
    assert response.headers.get_list("cache-control") == ["no-store"]


@pytest.mark.parametrize("path", ["/api/vouchers/1", "/api/nothing/here"])
async def test_no_cache_stores_what_the_gateway_refuses(stack: Stack, path: str) -> None:
    response = await stack.client.get(path)
    assert response.status_code in (401, 404)
    assert response.headers.get_list("cache-control") == ["no-store"]


async def test_a_service_may_allow_caches_to_store_its_answer(stack: Stack) -> None:
    stack.upstream.headers = [(b"Cache-Control", b"private, max-age=60")]
    response = await stack.client.get("/api/vouchers/1", headers=bearer())
    assert response.headers.get_list("cache-control") == ["private, max-age=60"]


@pytest.mark.parametrize("status", [204, 304])
async def test_answers_without_a_body_keep_the_connection(stack: Stack, status: int) -> None:
    stack.upstream.status, stack.upstream.body = status, b""
    stack.upstream.headers = [(b"etag", b'"1"')]
    for _ in range(3):
        response = await stack.client.get("/api/vouchers/1", headers=bearer())
        assert response.status_code == status
        assert "transfer-encoding" not in response.headers


async def test_304_with_a_length_is_complete() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_head(reader)
            writer.write(b'HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\nETag: "1"\r\n\r\n')

    async with raw_upstream(handler) as url, open_stack(vouchers_url=(url,)) as stack:
        for _ in range(2):
            response = await stack.client.get("/api/vouchers/1", headers=bearer())
            assert response.status_code == 304
            assert response.headers["etag"] == '"1"'


async def test_head_has_the_length_and_no_body(stack: Stack) -> None:
    for _ in range(2):
        response = await stack.client.head("/api/vouchers/1", headers=bearer())
        assert response.status_code == 200
        assert response.headers["content-length"] == str(len(stack.upstream.body))
        assert response.content == b""


async def test_interim_answers_are_not_taken_for_the_answer() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()

    async with raw_upstream(handler) as url, open_stack(vouchers_url=(url,)) as stack:
        response = await stack.client.get("/api/vouchers/1", headers=bearer())
        assert (response.status_code, response.text) == (200, "ok")


async def test_switching_protocols_is_refused() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await read_head(reader)
        assert b"upgrade" not in head.lower()
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n")
        await writer.drain()
        await reader.read()

    async with raw_upstream(handler) as url, open_stack(vouchers_url=(url,)) as stack:
        headers = {**bearer(), "Connection": "Upgrade", "Upgrade": "websocket"}
        response = await stack.client.get("/api/vouchers/1", headers=headers)
        assert response.status_code == 502


async def test_compressed_answers_are_left_alone(stack: Stack) -> None:
    stack.upstream.headers = [(b"content-encoding", b"gzip")]
    stack.upstream.body = b"\x1f\x8bnot really gzip"
    async with stack.client.stream("GET", "/api/vouchers/1", headers=bearer()) as response:
        raw = b"".join([piece async for piece in response.aiter_raw()])
    assert raw == stack.upstream.body


async def test_cookies_of_one_client_do_not_reach_another(stack: Stack) -> None:
    stack.upstream.headers = [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2; Path=/")]
    first = await stack.client.get("/api/vouchers/1", headers=bearer())
    assert first.headers.get_list("set-cookie") == ["a=1", "b=2; Path=/"]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{stack.port}") as other:
        await other.get("/api/vouchers/1", headers=bearer())
    assert "cookie" not in stack.upstream.last_headers


async def test_only_the_dead_services_paths_are_unavailable() -> None:
    async with open_stack(vouchers_url=(DEAD,)) as stack:
        for path in ("/api/vouchers/1", "/api/voucher-types/available"):
            dead = await stack.client.get(path, headers=bearer())
            assert dead.status_code == 503
            assert dead.headers["retry-after"].isdigit()
            assert dead.json()["code"] == "upstream_unavailable"
        for path in ("/api/payments/my", "/api/organizations/1/users", "/api/organizations/1"):
            assert (await stack.client.get(path, headers=bearer())).status_code == 200


async def test_requests_skip_the_dead_instance_whatever_their_method() -> None:
    async def pieces() -> object:
        yield b"one"
        await asyncio.sleep(0.01)
        yield b"two"

    async with open_stack(pause_after_refusal=0) as live:
        url = f"http://127.0.0.1:{live.port}"
        async with open_stack(vouchers_url=(DEAD, url), pause_after_refusal=0) as stack:
            for _ in range(4):
                response = await stack.client.post(
                    "/api/vouchers/purchase",
                    content=pieces(),  # type: ignore[arg-type]
                    headers=bearer(),
                )
                assert response.status_code == 200
                assert live.upstream.bodies[-1] == b"onetwo"


async def test_instances_take_turns() -> None:
    async with open_stack() as one, open_stack() as two:
        urls = tuple(f"http://127.0.0.1:{stack.port}" for stack in (one, two))
        async with open_stack(vouchers_url=urls) as stack:
            for _ in range(6):
                await stack.client.get("/api/vouchers/1", headers=bearer())
        assert len(one.upstream.requests) == len(two.upstream.requests) == 3


async def test_a_silent_service_times_out() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with (
        raw_upstream(handler) as url,
        open_stack(vouchers_url=(url,), standard_timeout=0.2) as stack,
    ):
        for method in ("GET", "PUT"):
            response = await stack.client.request(
                method, "/api/vouchers/1", headers=bearer(), content=b"{}"
            )
            assert response.status_code == 504
            assert response.json()["code"] == "upstream_timed_out"


async def test_a_service_full_of_requests_refuses_the_rest_at_once() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    settings = {
        "in_flight_limit": 3,
        "sign_in_in_flight_limit": 1,
        "webhook_in_flight_limit": 1,
        "calendar_in_flight_limit": 1,
    }
    async with raw_upstream(handler) as url, open_stack(vouchers_url=(url,), **settings) as stack:
        get = partial(stack.client.get, "/api/vouchers/1", headers=bearer())
        calls = [asyncio.create_task(get()) for _ in range(5)]
        refused = [await call for call in islice(asyncio.as_completed(calls), 3)]
        assert [answer.status_code for answer in refused] == [503] * 3
        assert {answer.json()["code"] for answer in refused} == {"upstream_busy"}
        assert sum(call.done() for call in calls) == 3, "at once: the others still wait"
        for call in calls:
            call.cancel()


async def test_sign_ins_leave_places_to_other_requests() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await read_head(reader)
        if head.startswith(b"POST /api/auth/login"):
            await reader.read()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    settings = {"blind": True, "sign_in_in_flight_limit": 2}
    async with raw_upstream(handler) as url, open_stack(identity_url=(url,), **settings) as stack:
        logins = [asyncio.create_task(stack.client.post("/api/auth/login")) for _ in range(5)]
        refused = [await call for call in islice(asyncio.as_completed(logins), 3)]
        assert [answer.status_code for answer in refused] == [503] * 3
        assert {answer.json()["code"] for answer in refused} == {"upstream_busy"}
        assert (await stack.client.post("/api/auth/refresh")).status_code == 200
        for call in logins:
            call.cancel()
