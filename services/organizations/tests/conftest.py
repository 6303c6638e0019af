"""The organizations service over a real database; identity is an injected transport."""

import json
from collections.abc import AsyncIterator

import httpx
import pytest

from services.organizations.app import NAME, create_app
from services.organizations.events import CATALOGUE
from services.organizations.settings import Settings
from shared.db import make_engine
from shared.testing import Database, Tokens, client_of, service_database
from shared.transactions import Transactions

session_database = service_database("services.organizations")


class Identity:
    """Identity as the contract has it: one owner per organization, e-mail addresses unique."""

    def __init__(self) -> None:
        self.owners: dict[int, dict[str, object]] = {}
        self.lose_answer = False
        self.refuse_connection = False

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if self.refuse_connection:
            raise httpx.ConnectError("refused", request=request)
        if request.method == "GET":
            owner = self.owners.get(int(request.url.path.rpartition("/")[2]))
            return httpx.Response(200, json=owner) if owner else httpx.Response(404)
        answer = self._make_owner(json.loads(request.content))
        if self.lose_answer:
            raise httpx.ReadTimeout("lost", request=request)
        return answer

    def _make_owner(self, order: dict[str, object]) -> httpx.Response:
        organization = order["organization"]
        assert isinstance(organization, dict)
        known = self.owners.get(organization["id"])
        if known is None and any(o["email"] == order["email"] for o in self.owners.values()):
            return httpx.Response(409, json={"code": "email_taken"})
        if order["password"] == "password12":
            error = {"field": "password", "message": "is too common"}
            return httpx.Response(422, json={"code": "invalid", "errors": [error]})
        made = {
            "id": 100 + organization["id"],
            "email": order["email"],
            "name": order["name"],
            "role": "organization_owner",
            "organization_id": organization["id"],
            "is_active": True,
        }
        self.owners[organization["id"]] = made
        return httpx.Response(201, json=made)


@pytest.fixture
def identity() -> Identity:
    return Identity()


@pytest.fixture
def settings(database: Database, tokens: Tokens) -> Settings:
    return Settings(
        database_url=database.url,
        rabbitmq_url="amqp://unused",
        identity_url="http://identity",
        **tokens.settings("organizations"),
    )


@pytest.fixture
async def client(settings: Settings, identity: Identity) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(settings, transports={"identity": httpx.MockTransport(identity)})
    async with client_of(app) as client:
        yield client


@pytest.fixture
async def transactions(settings: Settings) -> AsyncIterator[Transactions]:
    engine = make_engine(settings.database_url)
    yield Transactions(engine, f"carnet/{NAME}", CATALOGUE)
    await engine.dispose()


@pytest.fixture
def admin(tokens: Tokens) -> dict[str, str]:
    return tokens.bearer(1, "admin")
