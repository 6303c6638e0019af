"""The merged document, its page, and the health of the whole."""

import json
import re
from contextlib import AsyncExitStack
from typing import Any

import pytest
from fastapi import FastAPI
from pydantic import create_model

from gateway.documents.openapi_merge import merge
from gateway.routes import RouteTable, Service
from gateway.tests.conftest import DEAD, Stack, config_for, open_stack, running
from shared.errors import Problem

pytestmark = pytest.mark.anyio

FIND = RouteTable().find


def document(path: str, schemas: dict[str, Any], use: str) -> dict[str, Any]:
    answer = {"content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{use}"}}}}
    return {
        "openapi": "3.1.0",
        "paths": {path: {"get": {"operationId": path, "responses": {"200": answer}}}},
        "components": {"schemas": schemas},
    }


def used(merged: dict[str, Any], path: str) -> str:
    answer = merged["paths"][path]["get"]["responses"]["200"]
    reference: str = answer["content"]["application/json"]["schema"]["$ref"]
    return reference.removeprefix("#/components/schemas/")


def test_equal_components_are_shared_and_different_ones_renamed() -> None:
    same = Problem.model_json_schema()
    page = {"items": {"$ref": "#/components/schemas/Item"}}
    merged = merge(
        {
            Service.VOUCHERS: document(
                "/api/vouchers/my",
                {"Problem": same, "Item": {"type": "string"}, "Page": page},
                "Page",
            ),
            Service.PAYMENTS: document(
                "/api/payments/my",
                {"Problem": same, "Item": {"type": "number"}, "Page": page},
                "Page",
            ),
        },
        FIND,
        version="1",
    )
    schemas = merged["components"]["schemas"]
    assert set(schemas) == {"Problem", "Item", "Page", "PaymentsItem", "PaymentsPage"}
    assert used(merged, "/api/vouchers/my") == "Page"
    assert used(merged, "/api/payments/my") == "PaymentsPage"
    assert schemas["PaymentsPage"]["items"]["$ref"] == "#/components/schemas/PaymentsItem"
    assert schemas["Page"]["items"]["$ref"] == "#/components/schemas/Item"


def test_what_is_not_routed_to_the_service_stays_out() -> None:
    paths = ["/internal/charges", "/health", "/api/vouchers/{id}", "/api/payments/{id}"]
    item = {"get": {"operationId": "x"}}
    merged = merge({Service.PAYMENTS: {"paths": dict.fromkeys(paths, item)}}, FIND, version="1")
    assert list(merged["paths"]) == ["/api/payments/{id}"]


def test_security_of_a_whole_document_is_kept_and_schemes_are_renamed() -> None:
    def secured(path: str, scheme: dict[str, str]) -> dict[str, Any]:
        return {
            "security": [{"Bearer": []}],
            "paths": {path: {"get": {}, "post": {"security": []}}},
            "components": {"securitySchemes": {"Bearer": scheme}},
        }

    merged = merge(
        {
            Service.VOUCHERS: secured("/api/vouchers/my", {"type": "http"}),
            Service.PAYMENTS: secured("/api/payments/my", {"type": "apiKey"}),
        },
        FIND,
        version="1",
    )
    assert merged["paths"]["/api/vouchers/my"]["get"]["security"] == [{"Bearer": []}]
    assert merged["paths"]["/api/payments/my"]["get"]["security"] == [{"PaymentsBearer": []}]
    assert merged["paths"]["/api/payments/my"]["post"]["security"] == []


def test_what_the_gateway_refuses_is_documented() -> None:
    described = {"description": "The service's own words."}
    item = {
        "get": {"responses": {"200": {}, "503": described}},
        "put": {"requestBody": {}, "responses": {"200": {}}},
    }
    paths = {"/api/vouchers/{id}": item}
    public: dict[str, Any] = {
        "/api/payments/webhooks/{gateway}": {"post": {"requestBody": {}, "responses": {}}}
    }
    merged = merge(
        {Service.VOUCHERS: {"paths": paths}, Service.PAYMENTS: {"paths": public}},
        FIND,
        version="1",
    )
    operations = merged["paths"]["/api/vouchers/{id}"]
    always = {"400", "429", "431", "502", "503", "504"}
    assert operations["get"]["responses"].keys() == always | {"200", "401"}
    assert operations["put"]["responses"].keys() == always | {"200", "401", "408", "413"}
    assert operations["get"]["responses"]["503"] == described
    webhook = merged["paths"]["/api/payments/webhooks/{gateway}"]["post"]["responses"]
    assert webhook.keys() == always | {"408", "413"}
    components = merged["components"]
    for response in webhook.values():
        name = response["$ref"].removeprefix("#/components/responses/")
        schema = components["responses"][name]["content"]["application/problem+json"]["schema"]
        assert schema == {"$ref": "#/components/schemas/Problem"}
        assert components["responses"][name]["headers"]["X-Request-ID"] == {
            "$ref": "#/components/headers/X-Request-ID"
        }
    assert components["headers"]["X-Request-ID"]["required"]
    assert components["schemas"]["Problem"]["title"] == "Problem"


def service_app(path: str, model_name: str, **fields: Any) -> FastAPI:
    app = FastAPI(docs_url=None, redoc_url=None)
    model = create_model(model_name, **fields)

    @app.get(path, response_model=model)
    async def read() -> dict[str, Any]:
        return {}

    @app.get("/internal/secret")
    async def secret() -> str:
        return ""

    @app.get("/health/ready", include_in_schema=False)
    async def ready() -> dict[str, str]:
        return {"status": "ready"}

    return app


async def test_the_gateway_merges_what_its_services_say() -> None:
    async with AsyncExitStack() as up:
        vouchers = service_app("/api/vouchers/my", "Read", id=(int, ...))
        payments = service_app("/api/payments/my", "Read", amount=(float, ...))
        urls = {
            name: (f"http://127.0.0.1:{await up.enter_async_context(running(config_for(app)))}",)
            for name, app in {"vouchers_url": vouchers, "payments_url": payments}.items()
        }
        others = {f"{name}_url": (DEAD,) for name in ("identity", "organizations", "audit")}
        stack = await up.enter_async_context(open_stack(blind=True, **urls, **others))
        response = await stack.client.get("/openapi.json")
        merged = response.json()
        assert response.status_code == 200
        assert set(merged["paths"]) == {"/api/vouchers/my", "/api/payments/my"}
        assert used(merged, "/api/vouchers/my") == "Read"
        assert used(merged, "/api/payments/my") == "PaymentsRead"
        assert merged["x-incomplete"] == ["identity", "organizations", "audit"]

        ready = await stack.client.get("/health/ready")
        assert ready.status_code == 503
        assert ready.json() == {
            "status": "not ready",
            "missing": ["identity", "organizations", "audit", "revocations"],
        }


async def test_ready_when_everything_is_there() -> None:
    async with running(config_for(service_app("/x", "X"))) as port:
        url = (f"http://127.0.0.1:{port}",)
        urls: dict[str, Any] = {
            f"{service}_url": url for service in Service if service is not Service.IDENTITY
        }
        async with open_stack(**urls) as stack:
            response = await stack.client.get("/health/ready")
            assert (response.status_code, response.json()) == (200, {"status": "ready"})


async def test_one_missing_service_does_not_take_the_gateway_away() -> None:
    async with running(config_for(service_app("/x", "X"))) as port:
        url = (f"http://127.0.0.1:{port}",)
        urls: dict[str, Any] = {
            f"{service}_url": url for service in Service if service is not Service.IDENTITY
        }
        async with open_stack(**{**urls, "payments_url": (DEAD,)}) as stack:
            response = await stack.client.get("/health/ready")
            assert response.status_code == 200
            assert response.json() == {"status": "degraded", "missing": ["payments"]}


async def test_the_gateway_is_alive_without_anything() -> None:
    dead: dict[str, Any] = {f"{service}_url": (DEAD,) for service in Service}
    async with open_stack(blind=True, **dead) as stack:
        assert (await stack.client.get("/health")).json() == {"status": "alive"}
        ready = await stack.client.get("/health/ready")
        assert ready.json()["missing"] == [*(service.value for service in Service), "revocations"]


async def test_the_page_and_its_assets_need_no_internet(stack: Stack) -> None:
    page = await stack.client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert re.search(r"(?:https?:)?//", page.text) is None
    assert "<script>" not in page.text
    policy = page.headers["content-security-policy"]
    assert "script-src 'self';" in policy
    assets = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(assets) == 4
    for asset in assets:
        response = await stack.client.get(asset)
        assert response.status_code == 200
        assert response.content
    start = await stack.client.get("/docs/assets/start.js")
    assert start.headers["content-type"].startswith("text/javascript")
    assert "http" not in start.text


async def test_the_gateways_own_pages_are_read_only(stack: Stack) -> None:
    for path in ("/docs", "/health", "/openapi.json"):
        response = await stack.client.post(path)
        assert response.status_code == 405
        assert response.headers["allow"] == "GET, HEAD"
        head = await stack.client.head(path)
        assert (head.status_code, head.content) == (200, b"")


async def test_the_document_is_json(stack: Stack) -> None:
    stack.upstream.body = b"not json"
    async with open_stack(audit_url=(f"http://127.0.0.1:{stack.port}",)) as other:
        other.upstream.body = b"[]"
        merged = json.loads((await other.client.get("/openapi.json")).content)
        assert merged["paths"] == {}
        assert merged["x-incomplete"] == [s.value for s in Service if s is not Service.AUDIT]


@pytest.mark.parametrize("name", ["password", "address", "invitation"])
async def test_links_of_messages_lead_to_pages(stack: Stack, name: str) -> None:
    page = await stack.client.get(f"/account/{name}")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert page.headers.get("cache-control") != "public, max-age=86400"
    assets = re.findall(r'(?:src|href)="(/account/[^"]+)"', page.text)
    assert len(assets) == 2
    for asset in assets:
        assert (await stack.client.get(asset)).status_code == 200
    script = (await stack.client.get("/account/assets/account.js")).text
    assert f'"/account/{name}"' in script
    called = set(re.findall(r'"(/api/[^"]+)"', script))
    assert all(FIND(path.encode()) is not None for path in called)
    assert len(called) == 5
