"""What is written down of a request, and what is not."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import REGISTRY

from gateway.tests.conftest import Stack, bearer, open_stack, token

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
    }
    assert (second["route"], second["status"]) == ("unmatched", 404)
    assert "hidden" not in written
    assert secret not in written


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
