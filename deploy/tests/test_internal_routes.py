"""Which service may call which internal route: declared, enforced, and what the callers do."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import httpx
import pytest
from fastapi import Depends, FastAPI
from fastapi.routing import APIRoute, iter_route_contexts

from deploy.local.system import CHECKOUT, SERVICES, UPSTREAMS
from deploy.tests.test_route_table import calls
from gateway.routes import Service
from shared.actors import CallingService
from shared.auth import AllowedCallers, get_calling_service
from shared.routing import router
from shared.testing import Tokens

pytestmark = pytest.mark.anyio

PREFIX = "/internal"
CALLERS = (*SERVICES, "gateway")


def internal_routes(app: FastAPI) -> Iterator[tuple[str, str, frozenset[str]]]:
    """Yield method, path and declared callers of every internal route."""
    for context in iter_route_contexts(app.routes):
        if not str(context.path).startswith(PREFIX):
            continue
        assert isinstance(context.route, APIRoute)
        declared = [d.call for d in calls(context.route.dependant)]
        [allowed] = [call for call in declared if isinstance(call, AllowedCallers)]
        for method in context.route.methods or ():
            yield method, str(context.path), allowed.names


def test_a_route_without_named_callers_cannot_be_made() -> None:
    internal = router(prefix=PREFIX)

    async def endpoint(_caller: Annotated[CallingService, Depends(get_calling_service)]) -> None:
        """Do nothing."""

    with pytest.raises(TypeError, match="names no callers"):
        internal.get("/secrets")(endpoint)


@pytest.mark.parametrize("service", SERVICES)
async def test_every_internal_route_refuses_every_service_it_does_not_name(
    service: str, apps: dict[Service, FastAPI], tokens: Tokens
) -> None:
    app = apps[Service(service)]
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        for method, path, names in internal_routes(app):
            assert names
            assert names <= set(CALLERS)
            for caller in CALLERS:
                headers = tokens.service_bearer(caller, service)
                answer = await client.request(method, re.sub(r"{\w+}", "1", path), headers=headers)
                refused = answer.status_code == 403 and answer.json()["code"] == "forbidden"
                assert refused == (caller not in names), f"{caller}: {method} {path}: {answer}"


def test_the_declared_callers_are_those_that_call(apps: dict[Service, FastAPI]) -> None:
    declared: dict[str, set[str]] = defaultdict(set)
    for service, app in apps.items():
        for _, path, names in internal_routes(app):
            declared[_shape(path)] |= names
            others = names - {"gateway"}
            assert others <= {name for name in SERVICES if service.value in UPSTREAMS[name]}
    real: dict[str, set[str]] = defaultdict(set)
    for caller in CALLERS:
        for path in _called_paths(caller):
            real[path].add(caller)
    assert declared == real


def _shape(path: str) -> str:
    return re.sub(r"{\w+}", "{}", path)


def _called_paths(caller: str) -> set[str]:
    """Return the internal paths that a process's own code writes down to call them."""
    folder = CHECKOUT / (caller if caller == "gateway" else f"services/{caller}")
    files = [f for f in folder.rglob("*.py") if "tests" not in f.parts and f.name != "internal.py"]
    return {path for file in files for path in _paths_in(file)}


def _paths_in(file: Path) -> Iterator[str]:
    tree = ast.parse(file.read_text())
    parts = {
        id(value) for n in ast.walk(tree) if isinstance(n, ast.JoinedStr) for value in n.values
    }
    for node in ast.walk(tree):
        if id(node) in parts:
            continue
        text = _text(node)
        if text.startswith(PREFIX):
            yield text


def _text(node: ast.AST) -> str:
    """Return a literal's text, with {} for what an f-string fills in."""
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(value) or "{}" for value in node.values)
    if not isinstance(node, ast.Constant):
        return ""
    return node.value.decode() if isinstance(node.value, bytes) else str(node.value)
