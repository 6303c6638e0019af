"""Requests that are false or contradict themselves, over a raw socket."""

import asyncio
import json

import pytest

from gateway.telemetry import METHODS
from gateway.tests.conftest import Stack, bearer, open_stack, read_head

pytestmark = pytest.mark.anyio

LOGIN = b"POST /api/auth/login HTTP/1.1\r\nHost: x\r\n"
SMUGGLED = b"GET /api/auth/smuggled HTTP/1.1\r\nHost: x\r\n\r\n"


def parts(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return int(status.split()[1]), headers, body


AMBIGUOUS = {
    "length and chunked": LOGIN
    + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    + SMUGGLED,
    "chunked and length": LOGIN
    + b"Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\n"
    + SMUGGLED,
    "two lengths": LOGIN + b"Content-Length: 0\r\nContent-Length: 44\r\n\r\n" + SMUGGLED,
    "two equal lengths": LOGIN + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\nx" + SMUGGLED,
    "a list of lengths": LOGIN + b"Content-Length: 1, 1\r\n\r\nx" + SMUGGLED,
    "a signed length": LOGIN + b"Content-Length: +1\r\n\r\nx" + SMUGGLED,
    "a negative length": LOGIN + b"Content-Length: -1\r\n\r\n" + SMUGGLED,
    "a hexadecimal length": LOGIN + b"Content-Length: 0x1\r\n\r\nx" + SMUGGLED,
    "an overflowing length": LOGIN + b"Content-Length: 18446744073709551617\r\n\r\nx" + SMUGGLED,
    "an empty length": LOGIN + b"Content-Length:\r\n\r\n" + SMUGGLED,
    "unknown coding": LOGIN + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked not last": LOGIN + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "hidden coding": LOGIN + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "two codings": LOGIN
    + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "coding with vertical tab": LOGIN + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "coding in HTTP/1.0": b"POST /api/auth/login HTTP/1.0\r\nHost: x\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "space before the colon": LOGIN + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "a folded header": LOGIN + b"X-A: b\r\n Transfer-Encoding: chunked\r\n\r\n",
    "a bad chunk size": LOGIN + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\nab\r\n0\r\n\r\n",
    "a negative chunk size": LOGIN + b"Transfer-Encoding: chunked\r\n\r\n-1\r\nab\r\n0\r\n\r\n",
    "an overflowing chunk size": LOGIN
    + b"Transfer-Encoding: chunked\r\n\r\n10000000000000001\r\nab\r\n0\r\n\r\n",
    "a chunk that is too long": LOGIN + b"Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n",
    "a chunk ended by a bare LF": LOGIN + b"Transfer-Encoding: chunked\r\n\r\n1\na\n0\n\n",
    "a bare CR in a header": LOGIN + b"X-A: b\rTransfer-Encoding: chunked\r\n\r\n",
    "a NUL in a header": LOGIN + b"X-A: b\x00c\r\n\r\n",
    "a header without a name": LOGIN + b": value\r\n\r\n",
    "a control character in a name": LOGIN + b"X\x01A: b\r\n\r\n",
    "no host": b"GET /api/auth/me HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "two authorizations": b"GET /api/auth/me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer a\r\n"
    b"Authorization: Bearer b\r\n\r\n",
    "a value that is not UTF-8": LOGIN + b"X-A: \xff\xfe\r\nContent-Length: 0\r\n\r\n",
    "raw bytes in the query": b"GET /api/auth/login?a=\xc3\xa9 HTTP/1.1\r\nHost: x\r\n\r\n",
    "connect": b"CONNECT internal:80 HTTP/1.1\r\nHost: internal:80\r\n\r\n",
    "a foreign method": b"BREW /api/auth/login HTTP/1.1\r\nHost: x\r\n\r\n",
    "HTTP/2's preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/0.9": b"GET /api/auth/login\r\n\r\n",
    "another version": b"GET /api/auth/login HTTP/3.7\r\nHost: x\r\n\r\n",
    "nonsense": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}


@pytest.mark.parametrize("request_bytes", AMBIGUOUS.values(), ids=AMBIGUOUS.keys())
async def test_ambiguous_requests_are_refused_whole(stack: Stack, request_bytes: bytes) -> None:
    answer = await stack.raw(request_bytes)
    status, headers, body = parts(answer)
    assert status in (400, 405, 501)
    assert headers["content-type"] == "application/problem+json"
    assert headers["x-content-type-options"] == "nosniff"
    assert json.loads(body[: int(headers["content-length"])])["request_id"]
    assert all(b"smuggled" not in scope["raw_path"] for scope in stack.upstream.requests)
    assert b"x" not in stack.upstream.bodies


async def test_a_body_with_a_bad_chunk_never_looks_complete(stack: Stack) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", stack.port)
    writer.write(LOGIN + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    await writer.drain()
    await asyncio.sleep(0.1)
    writer.write(b"zz\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 400")
    writer.close()
    await asyncio.sleep(0.1)
    assert stack.upstream.requests == []


async def test_pipelined_requests_are_answered_in_order(stack: Stack) -> None:
    one = b"GET /api/auth/login?n=%d HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = await stack.raw(one % 1 + one % 2 + last)
    assert answer.count(b"HTTP/1.1 200") == 3
    assert [scope["query_string"] for scope in stack.upstream.requests] == [b"n=1", b"n=2"]


@pytest.mark.parametrize(
    "target",
    [
        "//api/auth/login",
        "/api/auth/../../internal/charges",
        "/api/auth/%2e%2e/internal",
        "/api/auth%2flogin",
        "/api/auth/login;x",
        "/internal/charges",
        "/metrics",
        "/docs/../metrics",
        "/docs/assets/../../app.py",
        "/docs/assets/%2e%2e/app.py",
        "/api/auth/login/",
        "http://upstream/internal/charges",
        "http://upstream",
        "/",
        "*",
    ],
)
async def test_path_tricks_reach_nothing(stack: Stack, target: str) -> None:
    request = f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    status, headers, _ = parts(await stack.raw(request.encode()))
    assert status in (400, 404)
    assert headers["content-type"] == "application/problem+json"
    assert stack.upstream.requests == []


async def test_an_absolute_target_is_only_its_path(stack: Stack) -> None:
    request = b"GET http://evil/api/auth/login HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    assert parts(await stack.raw(request))[0] == 200
    assert stack.upstream.requests[-1]["raw_path"] == b"/api/auth/login"
    assert stack.upstream.last_headers["host"].startswith("127.0.0.1")


FORGED = {
    "X-Client-Address": "6.6.6.6",
    "X_Client_Address": "6.6.6.6",
    "X-Forwarded-For": "6.6.6.6",
    "X-Forwarded-Host": "evil",
    "X-Forwarded-Proto": "https",
    "Forwarded": "for=6.6.6.6",
    "X-Real-IP": "6.6.6.6",
    "X-User-Id": "1",
    "X-User-Role": "admin",
    "x_user_role": "admin",
    "X-Actor-Id": "1",
    "Proxy-Authorization": "Basic eDp5",
    "TE": "trailers",
    "Keep-Alive": "timeout=5",
    "Connection": "keep-alive, X-Named",
    "X-Named": "drop me",
}


async def test_forged_headers_stop_at_the_gateway(stack: Stack) -> None:
    sent = {**bearer(), **FORGED, "User-Agent": "Ägent/1", "X-Own": "kept"}
    await stack.client.get(
        "/api/vouchers/1",
        headers=[(name.encode(), value.encode()) for name, value in sent.items()],
    )
    seen = stack.upstream.last_headers
    assert {name.lower() for name in FORGED} & seen.keys() == {"x-client-address"}
    assert seen["x-client-address"] == "127.0.0.1"
    assert seen["user-agent"] == "Ägent/1"
    assert seen["x-own"] == "kept"
    assert seen["authorization"].startswith("Bearer ")


@pytest.mark.parametrize(
    ("chain", "client"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("6.6.6.6, 203.0.113.9", "203.0.113.9"),
        ("6.6.6.6, 203.0.113.9, 10.1.2.3", "203.0.113.9"),
        ("10.1.2.3, 10.1.2.4", "10.1.2.3"),
        ("2001:db8::7", "2001:db8::7"),
        ("[2001:db8::7]:443", "2001:db8::7"),
        ("203.0.113.9:5555", "203.0.113.9"),
        ("6.6.6.6, unknown, 10.1.2.3", "10.1.2.3"),
        ("", "127.0.0.1"),
        ("<script>", "127.0.0.1"),
    ],
)
async def test_a_trusted_proxy_names_the_client(chain: str, client: str) -> None:
    async with open_stack(trusted_proxies="127.0.0.0/8, 10.0.0.0/8") as stack:
        await stack.client.get("/api/auth/login", headers={"X-Forwarded-For": chain})
        assert stack.upstream.last_headers["x-client-address"] == client
        assert "x-forwarded-for" not in stack.upstream.last_headers


async def test_an_untrusted_proxy_is_the_client() -> None:
    async with open_stack(trusted_proxies="10.0.0.0/8") as stack:
        await stack.client.get("/api/auth/login", headers={"X-Forwarded-For": "203.0.113.9"})
        assert stack.upstream.last_headers["x-client-address"] == "127.0.0.1"


async def test_a_harmless_request_id_is_kept_everywhere(stack: Stack) -> None:
    sent = {"X-Request-ID": "my-request.id_01"}
    for path in ("/api/auth/login", "/nowhere", "/api/auth/me", "/health", "/a//b"):
        response = await stack.client.get(path, headers=sent)
        assert response.headers.get_list("x-request-id") == ["my-request.id_01"]
        if response.is_error:
            assert response.json()["request_id"] == "my-request.id_01"
    assert stack.upstream.last_headers["x-request-id"] == "my-request.id_01"


@pytest.mark.parametrize("sent", ["short", "x" * 129, "has space in it", "quote\"quote'", "é" * 9])
async def test_another_request_id_is_replaced(stack: Stack, sent: str) -> None:
    headers = {b"X-Request-ID": sent.encode()}
    response = await stack.client.get("/api/auth/login", headers=headers)
    made = response.headers["x-request-id"]
    assert made not in ("", sent)
    assert stack.upstream.last_headers["x-request-id"] == made


async def test_a_body_over_the_limit_is_refused_by_its_length(stack: Stack) -> None:
    body = b"x" * (1024 * 1024 + 1)
    response = await stack.client.post("/api/auth/login", content=body)
    assert response.status_code == 413
    assert response.json()["code"] == "body_too_large"
    assert stack.upstream.requests == []
    assert (await stack.client.post("/api/auth/login", content=body[:-1])).status_code == 200


async def test_a_chunked_body_over_the_limit_is_refused_as_it_comes(stack: Stack) -> None:
    async def pieces() -> object:
        for _ in range(20):
            yield b"x" * 65536

    response = await stack.client.post("/api/auth/login", content=pieces())  # type: ignore[arg-type]
    assert response.status_code == 413
    assert stack.upstream.requests == []


async def test_a_body_that_stalls_is_refused() -> None:
    async with open_stack(body_timeout=0.2) as stack:
        answer = await stack.raw(LOGIN + b"Content-Length: 10\r\n\r\nhalf")
        assert parts(answer)[0] == 408
        answer = await stack.raw(LOGIN + b"Content-Length: 10\r\n\r\n")
        assert parts(answer)[0] == 408


@pytest.mark.parametrize(
    "head",
    [
        b"GET /api/auth/login?" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        LOGIN + b"X-A: " + b"a" * 40_000 + b"\r\n\r\n",
        LOGIN + b"X-A: " + b"a" * 400_000,
        LOGIN + b"".join(b"X-%d: a\r\n" % n for n in range(8000)) + b"\r\n",
        LOGIN + b"X" * 400_000,
    ],
)
async def test_a_large_head_is_refused(stack: Stack, head: bytes) -> None:
    status, headers, body = parts(await stack.raw(head))
    assert status == 431
    assert headers["connection"] == "close"
    assert json.loads(body)["code"] == "head_too_large"


async def test_a_slow_head_is_refused_and_a_silent_connection_closed() -> None:
    async with open_stack(head_timeout=1) as stack:
        assert parts(await stack.raw(LOGIN))[0] == 408
        assert await stack.raw(b"") == b""
        assert await stack.raw(b"\r\n") == b""
        reader, writer = await asyncio.open_connection("127.0.0.1", stack.port)
        writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        await read_head(reader)
        await asyncio.sleep(1.5)
        writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).count(b"HTTP/1.1 200") == 1
        writer.close()


async def test_trace_is_not_offered(stack: Stack) -> None:
    response = await stack.client.request("TRACE", "/api/auth/login")
    assert response.status_code == 405
    assert response.headers["allow"] == ", ".join(sorted(METHODS))
    assert stack.upstream.requests == []


async def test_every_answer_has_the_security_headers_once() -> None:
    async with open_stack(tls=True) as stack:
        stack.upstream.headers = [
            (b"server", b"secret/1.0"),
            (b"x-powered-by", b"secret"),
            (b"x-frame-options", b"ALLOWALL"),
            (b"content-security-policy", b"default-src *"),
        ]
        for path in ("/api/auth/login", "/nowhere", "/api/auth/me", "/health", "/docs", "/a//b"):
            response = await stack.client.get(path)
            headers = response.headers
            assert headers.get_list("x-content-type-options") == ["nosniff"]
            assert headers.get_list("x-frame-options") == ["DENY"]
            assert headers.get_list("referrer-policy") == ["no-referrer"]
            assert headers.get_list("strict-transport-security")[0].startswith("max-age=")
            assert len(headers.get_list("content-security-policy")) == 1
            assert "default-src 'none'" in headers["content-security-policy"]
            assert len(headers.get_list("date")) == 1
            assert "server" not in headers
            assert "x-powered-by" not in headers


async def test_hsts_only_where_clients_come_by_tls(stack: Stack) -> None:
    assert "strict-transport-security" not in (await stack.client.get("/health")).headers
