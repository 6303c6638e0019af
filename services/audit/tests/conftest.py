"""The audit service over a real database."""

import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from uuid_utils import uuid7

from services.audit.app import NAME, create_app
from services.audit.events import CATALOGUE
from services.audit.evidence.drafts import draft_of
from services.audit.evidence.seal_stores import store_at
from services.audit.handlers import QUEUE, handle
from services.audit.service.seals import Sealer, SealReader, SealSigner
from services.audit.settings import Settings
from shared.db import make_engine, now
from shared.events import Event
from shared.testing import Database, Tokens, client_of, free_port, service_database
from shared.transactions import Transactions

session_database = service_database("services.audit")

SECRET = "never-to-be-seen"


def event(
    action: str = "UPDATE",
    entity: str = "voucher_type",
    organization_id: int | None = 7,
    **changes: Any,
) -> Event:
    """Return an event as a service would publish it; `changes` overwrite data or envelope."""
    envelope: dict[str, Any] = {
        name: changes.pop(name) for name in ("id", "time", "type") if name in changes
    }
    body: dict[str, Any] = {
        "id": str(uuid7()),
        "source": "carnet/vouchers",
        "type": f"vouchers.{entity}.changed.v1",
        "time": now(),
        "subject": f"{entity}/1",
        "data": {
            "action": action,
            "entity_type": entity,
            "entity_id": 1,
            "entity_version": 1,
            "organization_id": organization_id,
            "actor": {"user_id": 5, "role": "staff", "ip_address": "192.0.2.7"},
            "correlation_id": "request-1",
            "old_values": {"price": "399.99"},
            "new_values": {"price": "400.00"},
            **changes,
        },
        **envelope,
    }
    return Event.model_validate(body)


@pytest.fixture(scope="session")
def object_store() -> Iterator[str]:
    """Run an S3-compatible server; return its address."""
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "--host=127.0.0.1", f"--port={port}"],
        stderr=subprocess.DEVNULL,
    )
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(600):
            with suppress(httpx.TransportError):
                httpx.get(address)
                break
            time.sleep(0.1)
        else:
            pytest.fail("moto did not start")
        yield address
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def bucket(object_store: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the address of a place in an empty bucket; the environment knows how to get there."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", object_store)
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "carnet")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    name = f"seals-{uuid7()}"
    assert httpx.put(f"{object_store}/{name}").status_code == 200
    return f"s3://{name}/of/carnet"


@pytest.fixture
def seals(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the place of the seals: a folder, or a bucket when a test asks for one."""
    if getattr(request, "param", "folder") == "bucket":
        place: str = request.getfixturevalue("bucket")
        return place
    return str(tmp_path / "seals")


@pytest.fixture
def settings(database: Database, tokens: Tokens, seals: str) -> Settings:
    return Settings(
        database_url=database.url,
        rabbitmq_url="amqp://unused",
        seals=seals,
        **tokens.settings("audit"),
    )


@pytest.fixture
async def transactions(settings: Settings) -> AsyncIterator[Transactions]:
    engine = make_engine(settings.database_url)
    yield Transactions(engine, f"carnet/{NAME}", CATALOGUE)
    await engine.dispose()


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(create_app(settings)) as client:
        yield client


@pytest.fixture
def sealer(settings: Settings) -> Sealer:
    store = store_at(settings.seals)
    signer = SealSigner(settings.internal_key.get_secret_value())
    return Sealer(store, SealReader(store, settings.internal_jwks), signer)


async def deliver(transactions: Transactions, *events: Event) -> None:
    """Handle events as the consumer does: inbox and effect in one transaction."""
    async with transactions.system() as session:
        await handle.apply(session, QUEUE.name, [draft_of(event) for event in events])


async def rows_of(database: Database) -> list[dict[str, Any]]:
    """Return the audit rows as they are stored, in the order of writing."""
    return await database.rows("SELECT * FROM audit_logs ORDER BY id")
