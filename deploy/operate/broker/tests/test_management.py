"""A broker of one's own gets its users by its management API, or by hand with printed commands."""

import asyncio
import base64
import json
import shlex
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from typer.testing import CliRunner, Result

from deploy.cli import app
from deploy.local.errors import StartError
from deploy.operate.broker import management
from deploy.operate.broker.access import (
    USERS,
    definitions_for,
    password_variable,
    users,
    virtual_host,
)
from shared.testing import free_port

pytestmark = pytest.mark.anyio

PASSWORDS = {user: f"{user}-secret" for user in USERS}
ENVIRONMENT = {password_variable(user): password for user, password in PASSWORDS.items()}


@dataclass
class Api:
    """The management API of a broker: the outside world."""

    url: str = ""
    status: int = 204
    requests: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)

    async def answer(self, request: Request) -> Response:
        user = base64.b64decode(request.headers["authorization"].split()[1]).decode()
        self.requests.append((str(request.url.path), user, await request.json()))
        return Response(status_code=self.status)


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    found, port = Api(), free_port()
    application = Starlette(routes=[Route("/api/definitions", found.answer, methods=["POST"])])
    server = uvicorn.Server(uvicorn.Config(application, port=port, log_level="critical"))
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    found.url = f"http://root:p%40ss@127.0.0.1:{port}"
    yield found
    server.should_exit = True
    await task


async def test_users_rights_and_exchanges_are_posted(api: Api) -> None:
    await management.provision(f"{api.url}/", PASSWORDS, host="shop")
    [(path, user, sent)] = api.requests
    assert (path, user) == ("/api/definitions", "root:p@ss")
    assert {account["name"] for account in sent["users"]} == set(USERS)
    assert not [account for account in sent["users"] if account["tags"]]
    assert {one["vhost"] for one in sent["permissions"]} == {"shop"}
    assert not [password for password in PASSWORDS.values() if password in json.dumps(sent)]


async def test_a_refusal_names_the_variable_and_no_secret(api: Api) -> None:
    api.status = 401
    with pytest.raises(StartError, match="status 401") as raised:
        await management.provision(api.url, PASSWORDS, host="/")
    assert "CARNET_RABBITMQ_MANAGEMENT_URL" in raised.value.remedy
    with pytest.raises(StartError, match="cannot be used") as raised:
        await management.provision("http://root:p%40ss@127.0.0.1:1", PASSWORDS, host="/")
    assert "p@ss" not in f"{raised.value.problem} {raised.value.remedy}"


def carnet(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(app, ["broker", *arguments], env=environment)


def test_the_definitions_are_printed_without_passwords() -> None:
    result = carnet("definitions", "--vhost", "shop", **ENVIRONMENT)
    assert result.exit_code == 0, result.output
    printed = json.loads(result.output)
    expected = definitions_for(PASSWORDS, host="shop")
    assert printed["permissions"] == expected["permissions"]
    assert not [password for password in PASSWORDS.values() if password in result.output]


def test_a_missing_password_is_named() -> None:
    result = carnet("definitions", **ENVIRONMENT | {"GATEWAY_RABBITMQ_PASSWORD": ""})
    assert result.exit_code == 1
    assert carnet("provision", **ENVIRONMENT).exit_code == 1


def test_the_commands_and_the_definitions_agree() -> None:
    result = carnet("commands", "--vhost", "shop")
    assert result.exit_code == 0, result.output
    lines = [shlex.split(line) for line in result.output.splitlines()]
    for user in users():
        password = f"${password_variable(user.name)}"
        assert ["rabbitmqctl", "add_user", user.name, password] in lines
        rights = ["--vhost", "shop", user.name, user.configure, user.write, user.read]
        assert ["rabbitmqctl", "set_permissions", *rights] in lines
        keys = ["--vhost", "shop", user.name, "carnet", user.publishes, user.binds]
        assert ["rabbitmqctl", "set_topic_permissions", *keys] in lines
    assert lines[0] == ["rabbitmqctl", "add_vhost", "shop"]
    assert "add_vhost" not in carnet("commands").output
    assert [line[5] for line in lines if line[0] == "rabbitmqadmin"] == [
        "name=carnet",
        "name=carnet.listeners",
    ]


def test_the_virtual_host_of_an_address() -> None:
    hosts = {url: virtual_host(f"amqp://a:b@c{url}") for url in ("", "/", "/%2F", "/shop")}
    assert hosts == {"": "/", "/": "/", "/%2F": "/", "/shop": "shop"}
