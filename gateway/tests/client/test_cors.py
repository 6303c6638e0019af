"""Other origins' pages: nothing by default, and then exactly what was allowed."""

import httpx
import pytest

from gateway.tests.conftest import DEAD, Stack, bearer, open_stack, settings_for

pytestmark = pytest.mark.anyio

SHOP = "https://shop.example"
ASKING = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "if-match"}


def cors_headers(response: httpx.Response) -> set[str]:
    return {name for name in response.headers if name.startswith("access-control-")}


async def test_no_header_is_sent_by_default(stack: Stack) -> None:
    response = await stack.client.get("/api/vouchers/1", headers={**bearer(), "Origin": SHOP})
    assert not cors_headers(response)
    assert "vary" not in response.headers
    asked = await stack.client.options("/api/vouchers/1", headers={"Origin": SHOP, **ASKING})
    assert asked.status_code == 401
    assert not cors_headers(asked)


async def test_the_question_before_is_answered_without_a_token() -> None:
    async with open_stack(cors_origins=f"https://other.example, {SHOP}") as stack:
        response = await stack.client.options("/api/vouchers/1", headers={"Origin": SHOP, **ASKING})
        assert response.status_code == 204
        assert response.headers["access-control-allow-origin"] == SHOP
        assert "PUT" in response.headers["access-control-allow-methods"]
        allowed = response.headers["access-control-allow-headers"].split(", ")
        assert {"authorization", "idempotency-key", "if-match"} <= set(allowed)
        assert "access-control-allow-credentials" not in response.headers
        assert "origin" in response.headers["vary"]
        assert response.headers["x-content-type-options"] == "nosniff"
        assert not stack.upstream.requests


async def test_answers_and_refusals_can_be_read_by_the_page() -> None:
    async with open_stack(cors_origins=SHOP) as stack:
        for headers, status in (({}, 401), (bearer(), 200)):
            response = await stack.client.get(
                "/api/vouchers/1", headers={**headers, "Origin": SHOP}
            )
            assert response.status_code == status
            assert response.headers["access-control-allow-origin"] == SHOP
            assert "etag" in response.headers["access-control-expose-headers"]
            assert response.headers["vary"] == "origin"


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "https://shop.example.evil", "http://shop.example", "null", "*", ""],
)
async def test_another_origin_gets_no_header(origin: str) -> None:
    async with open_stack(cors_origins=SHOP) as stack:
        response = await stack.client.get("/api/vouchers/1", headers={**bearer(), "Origin": origin})
        assert response.status_code == 200
        assert not cors_headers(response)
        assert response.headers["vary"] == "origin"
        asked = await stack.client.options("/api/vouchers/1", headers={"Origin": origin, **ASKING})
        assert not cors_headers(asked)


async def test_an_ordinary_options_request_passes() -> None:
    async with open_stack(cors_origins=SHOP) as stack:
        response = await stack.client.options("/api/vouchers/1", headers=bearer())
        assert response.status_code == 200
        assert stack.upstream.requests[-1]["method"] == "OPTIONS"


@pytest.mark.parametrize(
    "origin",
    ["*", "https://*.example", "shop.example", "https://shop.example/", "https://Shop.example"],
)
def test_only_exact_origins_can_be_set(origin: str) -> None:
    with pytest.raises(ValueError, match=r"origin|one host"):
        settings_for(DEAD, cors_origins=origin)
