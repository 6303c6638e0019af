"""What is logged of a request, and what is not."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import REGISTRY

from gateway.tests.conftest import Stack, bearer, open_stack, token
from shared.testing import until

pytestmark = pytest.mark.anyio


def counted(**labels: str) -> float:
    return REGISTRY.get_sample_value("carnet_gateway_requests_total", labels) or 0


async def test_one_line_a_request_without_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    secret = token()
    async with open_stack() as stack:
        await stack.client.get(
            "/api/vouchers/12?code=hidden-code",
            headers={**bearer(secret), "X-Request-ID": "request-0001"},
        )
        await stack.client.get("/nowhere/hidden-path")
    written = capsys.readouterr().out
    lines = [json.loads(line) for line in written.splitlines() if '"request"' in line]
    first, second = lines
    assert first.pop("duration_ms") > 0
    written_at = datetime.fromisoformat(first.pop("timestamp"))
    assert abs(datetime.now(UTC) - written_at) < timedelta(seconds=30)
    assert first == {
        "event": "request",
        "level": "info",
        "logger": "access",
        "service": "gateway",
        "request_id": "request-0001",
        "method": "GET",
        "route": "/api/vouchers/*",
        "status": 200,
        "client_address": "127.0.0.1",
        "user_id": 7,
    }
    assert (second["route"], second["status"]) == ("unmatched", 404)
    assert second["user_id"] is None
    assert "hidden" not in written
    assert secret not in written


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_tokens_of_calendar_feeds_are_in_no_line(
    capsys: pytest.CaptureFixture[str], method: str
) -> None:
    route = "/api/calendars/{token}"
    labels = {"service": "vouchers", "route": route, "method": method, "status": "200"}
    before = counted(**labels)
    async with open_stack() as stack:
        await stack.client.request(method, f"/api/calendars/{'hidden' * 7}x.ics")
        await stack.client.request("PUT", f"/api/calendars/{'hidden' * 7}x.ics")
    written = capsys.readouterr().out
    assert f'"route":"{route}"' in written
    assert "hidden" not in written
    assert counted(**labels) == before + 1


async def test_requests_are_counted_by_template(stack: Stack) -> None:
    labels = {
        "service": "vouchers",
        "route": "/api/vouchers/*",
        "method": "GET",
        "status": "200",
    }
    before = counted(**labels)
    for number in (1, 2, 3):
        await stack.client.get(f"/api/vouchers/{number}", headers=bearer())
    assert counted(**labels) == before + 3
    assert REGISTRY.get_sample_value("carnet_gateway_in_flight") == 0


async def test_foreign_methods_do_not_make_new_series(stack: Stack) -> None:
    labels = {"service": "gateway", "route": "unmatched", "method": "OTHER", "status": "405"}
    before = counted(**labels)
    await stack.client.request("TRACE", "/api/vouchers/1")
    await stack.client.request("PROPFIND", "/api/vouchers/1")
    assert counted(**labels) == before + 2


@pytest.mark.parametrize("sent", [b"", b'{"email": "a@'])
@pytest.mark.parametrize("framing", [b"Content-Length: 100", b"Transfer-Encoding: chunked"])
async def test_a_body_that_breaks_off_is_one_line(
    capsys: pytest.CaptureFixture[str], sent: bytes, framing: bytes
) -> None:
    chunked = b"%x\r\n%b\r\n" % (len(sent), sent) if sent and b"chunked" in framing else sent
    async with open_stack() as stack:
        _, writer = await asyncio.open_connection("127.0.0.1", stack.port)
        writer.write(b"POST /api/auth/login HTTP/1.1\r\nHost: x\r\n" + framing + b"\r\n\r\n")
        writer.write(chunked)
        await writer.drain()
        await until(lambda: _requests_under_way() == 1)
        writer.close()
        await until(lambda: _requests_under_way() == 0)
        assert stack.upstream.requests == []
    written = capsys.readouterr()
    lines = [json.loads(line) for line in written.out.splitlines() if '"logger":"access"' in line]
    assert [line["status"] for line in lines] == [499]
    assert "Traceback" not in written.out + written.err


def _requests_under_way() -> float | None:
    return REGISTRY.get_sample_value("carnet_gateway_in_flight")
