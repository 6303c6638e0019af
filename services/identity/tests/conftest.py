"""The identity service over a real database; organizations is an injected transport.

Identity signs with the test issuer's key, so tokens from the fixture and from a sign-in are alike.
"""

import base64
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Any

import httpx
import pytest
from alembic import command
from argon2 import PasswordHasher
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine

from services.identity.app import NAME, create_app
from services.identity.events import CATALOGUE
from services.identity.security.key_encryption import KeyEncryption
from services.identity.service.undeliverable import mark_undeliverable
from services.identity.settings import Settings
from shared.db import make_engine
from shared.mail.sender import MailSender
from shared.mail.settings import encryption_of
from shared.migrations import config_of
from shared.testing import Database, Tokens, client_of, service_database
from shared.testing_mail import ReceivingServer
from shared.transactions import Transactions

session_database = service_database("services.identity")

PASSWORD = "correct horse battery"
HASHED = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1).hash(PASSWORD)
MINE, OTHER = 7, 8


class Organizations:
    """The organizations service as the contract has it."""

    def __init__(self) -> None:
        self.known: dict[int, dict[str, Any]] = {}
        self.asked = 0
        self.is_down = False

    def add(self, organization_id: int, slug: str, **changes: Any) -> None:
        self.known[organization_id] = {
            "id": organization_id,
            "version": 1,
            "name": slug.title(),
            "slug": slug,
            "is_active": True,
            **changes,
        }

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        if self.is_down:
            raise httpx.ConnectError("refused", request=request)
        slug = request.url.params.get("slug")
        found = [
            known
            for known in self.known.values()
            if slug == known["slug"] or request.url.path.endswith(f"/{known['id']}")
        ]
        return httpx.Response(200, json=found[0]) if found else httpx.Response(404)


@pytest.fixture
def organizations() -> Organizations:
    known = Organizations()
    known.add(MINE, "mine")
    known.add(OTHER, "other")
    return known


@pytest.fixture
def settings(database: Database, tokens: Tokens) -> Settings:
    return Settings(
        database_url=database.url,
        rabbitmq_url="amqp://unused",
        organizations_url="http://organizations",
        signing_secret=base64.urlsafe_b64encode(bytes(range(32))).decode(),
        failed_sign_in_seconds=0,
        admins_need_second_factor=False,
        **tokens.settings("identity"),
    )


@pytest.fixture
def mail_settings(settings: Settings, smtp: ReceivingServer) -> Settings:
    """The settings of an installation that has an SMTP server."""
    return settings.model_copy(
        update={
            "smtp_url": SecretStr(smtp.url),
            "mail_from": "Carnet <mail@carnet.example>",
            "public_url": "https://carnet.example",
        }
    )


@pytest.fixture
def sender(mail_settings: Settings, transactions: Transactions) -> MailSender:
    """What the worker sends messages with."""
    return MailSender(
        "services.identity",
        mail_settings,
        transactions,
        encryption_of(mail_settings),
        on_undeliverable=mark_undeliverable,
    )


async def send_all(sender: MailSender) -> None:
    """Send every message that waits."""
    while await sender.run_once():
        pass


def text_of(message: EmailMessage) -> str:
    """Return the text part of a message."""
    part = message.get_body(("plain",))
    assert part is not None
    text: str = part.get_content()
    return text


def token_in(message: EmailMessage) -> str:
    """Return the token of a message's link, which both parts have."""
    [token] = re.findall(
        r"https://carnet\.example/account/[a-z]+#token=([\w-]{43})", text_of(message)
    )
    html = message.get_body(("html",))
    assert html is not None
    assert f"#token={token}" in html.get_content()
    return str(token)


@pytest.fixture
async def transactions(settings: Settings) -> AsyncIterator[Transactions]:
    engine = make_engine(settings.database_url)
    yield Transactions(engine, f"carnet/{NAME}", CATALOGUE, mail=encryption_of(settings))
    await engine.dispose()


@pytest.fixture
async def app(
    settings: Settings, database: Database, tokens: Tokens, organizations: Organizations
) -> FastAPI:
    async with database.admin() as admin:
        await admin.execute(
            "INSERT INTO signing_keys (id, public_key, private_key, created_at, signs_from)"
            " VALUES ('test', $1, $2, now(), now())",
            json.dumps(tokens.key.as_dict(private=False)),
            KeyEncryption(settings.signing_secret).encrypt(tokens.key),
        )
    return create_app(settings, transports={"organizations": httpx.MockTransport(organizations)})


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app) as client:
        yield client


@dataclass(frozen=True, slots=True)
class Person:
    id: int
    email: str
    headers: dict[str, str]

    @property
    def credentials(self) -> dict[str, str]:
        return {"email": self.email, "password": PASSWORD}


async def user_id_of(database: Database, email: str) -> int:
    """Return the id of the user with an address, which a registration does not return."""
    [row] = await database.rows("SELECT id FROM users WHERE email = $1", email)
    return int(row["id"])


@dataclass(slots=True)
class People:
    """Makes users straight in the database, with the headers of their requests."""

    database: Database
    tokens: Tokens
    made: int = field(default=0)

    async def add(
        self,
        role: str,
        organization_id: int | None = None,
        permissions: tuple[str, ...] = (),
        **changes: Any,
    ) -> Person:
        self.made += 1
        row = {
            "email": f"{role}-{self.made}@example.org",
            "name": f"{role.title()} {self.made}",
            "password_hash": HASHED,
            "role": role,
            "organization_id": organization_id,
            "is_organization_owner": role == "organization_owner",
            "is_active": True,
            **changes,
        }
        user_id = await self._insert(row)
        for permission in permissions:
            await self._grant(user_id, organization_id, permission)
        headers = self.tokens.bearer(user_id, role, organization_id, permissions)
        return Person(user_id, str(row["email"]), headers)

    async def add_invited(self, role: str, organization_id: int | None = None) -> Person:
        """Make a user who has not accepted an invitation yet."""
        invited: dict[str, Any] = {"invited_at": datetime.now(UTC), "password_hash": "!"}
        return await self.add(role, organization_id, is_active=False, **invited)

    async def _insert(self, row: dict[str, Any]) -> int:
        approved = "now()" if row.pop("approved", True) else "NULL"
        columns = ", ".join(row)
        places = ", ".join(f"${number}" for number in range(1, len(row) + 1))
        async with self.database.admin() as admin:
            user_id: int = await admin.fetchval(
                f"INSERT INTO users ({columns}, approved_at, created_at, updated_at, version)"
                f" VALUES ({places}, {approved}, now(), now(), 1) RETURNING id",
                *row.values(),
            )
        return user_id

    async def _grant(self, user_id: int, organization_id: int | None, permission: str) -> None:
        async with self.database.admin() as admin:
            await admin.execute(
                "INSERT INTO permissions (user_id, organization_id, permission, granted_at,"
                " created_at, updated_at, version) VALUES ($1, $2, $3, now(), now(), now(), 1)",
                user_id,
                organization_id,
                permission,
            )

    async def copy_organizations(self, *ids: int, is_active: bool = True) -> None:
        async with self.database.admin() as admin:
            for id_ in ids:
                await admin.execute(
                    "INSERT INTO organization_copies (id, slug, slug_version, is_active,"
                    " is_active_version, name, name_version, updated_at)"
                    " VALUES ($1, $2, 1, $3, 1, initcap($2), 1, now())",
                    id_,
                    "mine" if id_ == MINE else "other",
                    is_active,
                )


@pytest.fixture
def people(database: Database, tokens: Tokens) -> People:
    return People(database, tokens)


@pytest.fixture
async def admin(people: People) -> Person:
    return await people.add("admin")


@pytest.fixture
async def owner(people: People) -> Person:
    return await people.add("organization_owner", MINE)


async def downgrade(database: Database, revision: str) -> None:
    """Migrate the schema back to a revision."""
    engine = create_async_engine(database.owner_url.get_secret_value())

    def run_alembic(connection: Connection) -> None:
        config = config_of("services.identity")
        config.attributes["connection"] = connection
        command.downgrade(config, revision)

    try:
        async with engine.begin() as connection:
            await connection.run_sync(run_alembic)
    finally:
        await engine.dispose()
