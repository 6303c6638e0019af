"""A request without a task leaves behind exactly what the same request leaves in a task."""

import pytest

from gateway.tests.conftest import bearer, token
from gateway.tests.direct import CLOSE, OK, TOKEN, Call, Service, behind, outcome_of, warm_up

pytestmark = pytest.mark.anyio

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
LONG = b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n" + b"x" * 3_000_000
PURCHASE = Call("POST", "/api/vouchers/purchase", ["Content-Type: application/json"], b'{"a":1}')

ANSWERS: dict[str, tuple[bytes, ...]] = {
    "with a length": (OK,),
    "empty": (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",),
    "in two pieces": (OK[:-1], OK[-1:]),
    "with its head in two pieces": (OK[:20], OK[20:]),
    "chunked": (CHUNKED + b"2\r\nab\r\n3;x=y\r\ncde\r\n0\r\nTrailer: x\r\n\r\n",),
    "chunked with a trailer": (CHUNKED + b"2\r\nab\r\n0\r\nX-Late: forged\r\n\r\n",),
    "chunked and empty": (CHUNKED + b"0\r\n\r\n",),
    "chunked in pieces": (CHUNKED + b"2\r\nab\r\n", b"3\r\ncde\r\n", b"0\r\n\r\n"),
    "until the connection ends": (b"HTTP/1.1 200 OK\r\n\r\nall", CLOSE),
    "that closes the connection": (b"HTTP/1.1 200 OK\r\nConnection: close\r\n" + OK[17:], CLOSE),
    "of HTTP/1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", CLOSE),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n",),
    "no content with a length": (b"HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\n",),
    "not modified": (b'HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\nETag: "a"\r\n\r\n',),
    "an error": (b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}",),
    "a failure of the service": (b"HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\n{}",),
    "an unknown status": (b"HTTP/1.1 299 Mine\r\nContent-Length: 2\r\n\r\n{}",),
    "a status that HTTP does not have": (b"HTTP/1.1 799 Oh\r\nContent-Length: 2\r\n\r\n{}",),
    "a bad length": (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nok", CLOSE),
    "after interim ones": (b"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 103 Hints\r\nX: y\r\n\r\n" + OK,),
    "an upgrade": (b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", CLOSE),
    "with headers of its own": (
        b"HTTP/1.1 200 OK\r\nCache-Control: max-age=5\r\nServer: x\r\nX-Frame-Options: x\r\n"
        b"Set-Cookie: a=b\r\nSet-Cookie: c=d\r\nConnection: X-Named\r\nX-Named: 1\r\n" + OK[17:],
    ),
    "long": (LONG,),
    "that breaks off": (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", CLOSE),
    "chunked that breaks off": (CHUNKED + b"5\r\nhalf", CLOSE),
    "with a bad chunk": (CHUNKED + b"zz\r\n", CLOSE),
    "with more behind it": (OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",),
    "garbage": (b"no HTTP\r\n\r\n", CLOSE),
    "none": (CLOSE,),
}


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE"])
@pytest.mark.parametrize("pieces", ANSWERS.values(), ids=ANSWERS.keys())
async def test_every_answer_is_the_same_on_both_paths(
    method: str, pieces: tuple[bytes, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    service = Service(pieces)
    call = Call(method, body=b"body" if method in ("POST", "PUT") else b"")
    outcomes = []
    for in_task in (False, True):
        async with behind(service, circuit_failures=100) as stack:
            await warm_up(stack)
            request = call.encode(in_task=in_task)
            outcomes.append(await outcome_of(request, stack, service, capsys))
        assert service.tasks[0] == in_task
    assert outcomes[0] == outcomes[1]
    assert b"forged" not in outcomes[0].answer
    assert outcomes[0].lines[0]["status"] in (200, 204, 299, 304, 404, 500, 502, 503)


CALLS = {
    "a body": PURCHASE,
    "a key": Call("POST", headers=["Idempotency-Key: key-00001"], body=b"{}"),
    "an empty body": Call("POST", headers=["Content-Length: 0"]),
    "no length": Call("POST"),
    "a query": Call(path="/api/vouchers/1?a=%C3%A9&b=?/c"),
    "an empty query": Call(path="/api/vouchers/1?"),
    "the end of the connection": Call(headers=["Connection: close"]),
    "a named header": Call(headers=["Connection: keep-alive, X-Named", "X-Named: 1"]),
    "forged headers": Call(headers=["X-User-Id: 1", "X-Forwarded-For: 6.6.6.6", "TE: trailers"]),
    "an origin": Call(headers=["Origin: https://shop.example"]),
    "no token": Call(token=None),
    "a foreign token": Call(token="a.b.c"),
    "an unknown path": Call(path="/api/nothing"),
    "a path with a dot segment": Call(path="/api/vouchers/../1"),
    "a foreign method": Call("TRACE"),
    "a preflight": Call("OPTIONS", headers=["Access-Control-Request-Method: POST"]),
    "other options": Call("OPTIONS"),
    "two hosts": Call(headers=["Host: other"]),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
async def test_every_request_is_treated_the_same_on_both_paths(
    call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    service, outcomes = Service(), []
    for in_task in (False, True):
        async with behind(service, cors_origins="https://shop.example", tls=True) as stack:
            await warm_up(stack)
            request = call.encode(in_task=in_task)
            outcomes.append(await outcome_of(request, stack, service, capsys))
    assert outcomes[0] == outcomes[1]


LIMITS = {
    "of the address": {"address_limit": "1/minute"},
    "of the user": {"user_limit": "1/minute"},
}


@pytest.mark.parametrize("limit", LIMITS.values(), ids=LIMITS.keys())
async def test_a_limit_counts_each_request_once_on_both_paths(
    limit: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    service, outcomes = Service(), []
    for in_task in (False, True):
        async with behind(service, **limit) as stack:
            await warm_up(stack)  # takes the only one
            request = Call().encode(in_task=in_task)
            outcomes.append(await outcome_of(request, stack, service, capsys))
        assert service.heads == []
    for outcome in outcomes:
        assert outcome.answer.startswith(b"HTTP/1.1 429 ")
    assert outcomes[0].lines == outcomes[1].lines


async def test_a_token_revoked_after_its_verification_is_refused_without_a_task() -> None:
    service = Service()
    async with behind(service) as stack:
        await warm_up(stack)
        stack.gateway.revocations.end_sessions(["session-1"])
        response = await stack.client.get("/api/vouchers/1", headers=bearer(TOKEN))
        assert response.status_code == 401
    assert service.heads == []


async def test_a_token_that_was_not_verified_yet_needs_a_task_once() -> None:
    service, headers = Service(), bearer(token())
    async with behind(service) as stack:
        await warm_up(stack)
        for _ in range(3):
            await stack.client.get("/api/vouchers/1", headers=headers)
    assert service.tasks == [1, 0, 0]
    assert service.connections == 1
