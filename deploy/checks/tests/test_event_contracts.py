"""The published shapes of events: publishers keep to them, readers can live on them."""

import json
from collections.abc import AsyncIterator
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from jsonschema_rs import meta

from deploy.checks.event_shapes import files
from deploy.checks.event_shapes.build import all_schemas
from deploy.checks.event_shapes.consumers import Reader, all_readers
from deploy.checks.event_shapes.contracts import faults_of
from deploy.checks.event_shapes.examples import full, least
from deploy.local.system import CHECKOUT, SERVICES
from services.audit.app import NAME as AUDIT
from services.audit.events import CATALOGUE
from services.audit.evidence.drafts import draft_of
from services.audit.handlers import QUEUE, handle
from shared.asyncapi import asyncapi_router
from shared.changes import record_fact
from shared.db import make_engine
from shared.events import Event
from shared.settings import asyncpg_url
from shared.shapes import EventReading, Schema, published_shapes
from shared.testing import (
    Database,
    client_of,
    service_database,
)
from shared.testing_shapes import require_published_shape
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio
session_database = service_database("services.audit")

SHAPES = files.read_shapes(CHECKOUT)
READERS = all_readers()
READINGS = [
    pytest.param(kind, reading, id=f"{reader.name}-{kind}")
    for reader in READERS
    for kind, reading in reader.readings.items()
]


def examples_of(kind: str) -> list[dict[str, Any]]:
    """Return two golden envelopes of a type: with everything in it, and with the least."""
    return [full(SHAPES[kind]), least(SHAPES[kind])]


def test_the_committed_files_are_what_the_code_publishes() -> None:
    assert [str(path.relative_to(CHECKOUT)) for path in files.drift()] == []


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_waits_for_every_queue_that_takes_its_events(service: str) -> None:
    told = import_module(f"services.{service}.events")
    takes = {
        reader.name
        for reader in READERS
        if reader.is_durable and any(reader.takes(kind) for kind in told.CATALOGUE.values())
    }
    assert {*told.LISTENERS} == takes


@pytest.mark.parametrize("kind", SHAPES)
def test_a_shape_is_a_json_schema_whose_examples_hold(kind: str) -> None:
    meta.validate(SHAPES[kind])
    for example in examples_of(kind):
        require_published_shape(f"services.{kind.split('.')[0]}", example)
        Event.model_validate(example)


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_what_a_reader_needs_is_promised(reader: Reader) -> None:
    assert faults_of(reader, SHAPES) == []


def test_every_service_that_handles_events_is_among_the_readers() -> None:
    handling = {path.parent.name for path in CHECKOUT.glob("services/*/handlers.py")}
    assert {reader.name.split(".")[0] for reader in READERS} == handling | {"gateway"}


@pytest.mark.parametrize(("kind", "reading"), READINGS)
def test_a_reader_understands_the_examples(kind: str, reading: EventReading) -> None:
    for example in examples_of(kind):
        data = example["data"]
        envelope = {
            "id": data["entity_id"],
            "version": data["entity_version"],
            # The envelope of an organization's entity always has it.
            "organization_id": full(SHAPES[kind])["data"]["organization_id"],
        }
        known = {name: envelope[name] for name in reading.from_envelope}
        if reading.new_values and (not reading.partial or example == full(SHAPES[kind])):
            reading.new_values.model_validate(data["new_values"] | known)
        if reading.old_values:
            reading.old_values.model_validate(data["old_values"])


@pytest.fixture
async def transactions(database: Database) -> AsyncIterator[Transactions]:
    engine = make_engine(asyncpg_url(database.url))
    yield Transactions(engine, f"carnet/{AUDIT}", CATALOGUE)
    await engine.dispose()


async def test_the_audit_trail_takes_every_event(
    transactions: Transactions, database: Database
) -> None:
    bodies = [example for kind in SHAPES for example in examples_of(kind)]
    events = [
        Event.model_validate(body | {"id": f"event-{number}"}) for number, body in enumerate(bodies)
    ]
    async with transactions.system(causation=events[0]) as session:
        await handle.apply(session, QUEUE.name, [draft_of(event) for event in events])
    rows = await database.rows("SELECT event_id, envelope FROM audit_logs")
    stored = {row["event_id"]: json.loads(row["envelope"])["type"] for row in rows}
    assert stored == {event.id: event.type for event in events}


async def test_the_tests_of_every_service_refuse_an_undeclared_detail(
    transactions: Transactions, database: Database
) -> None:
    looked = {"how": "list", "filters": {}}
    async with transactions.system() as session:
        record_fact(session, "READ", "audit_log", details=looked)
    assert [event["data"]["new_values"] for event in await database.events()] == [looked]
    async with transactions.system() as session:
        record_fact(session, "READ", "audit_log", details=looked | {"mood": "good"})
    with pytest.raises(AssertionError, match="mood"):
        await database.events()


def envelope(kind: str, **new_values: Any) -> dict[str, Any]:
    """Return an example with more among its new values."""
    event: dict[str, Any] = least(SHAPES[kind])
    event["data"]["new_values"] |= new_values
    return event


@pytest.mark.parametrize(
    ("kind", "new_values", "told"),
    [
        ("identity.user.updated.v1", {"mood": "good"}, "mood"),
        ("identity.user.created.v1", {"password_hash": "canary"}, "password_hash"),
        ("vouchers.voucher.updated.v1", {"price": 399.99}, "price"),
        ("vouchers.voucher.purchased.v1", {"buyer": {"name": "Ann"}}, "email"),
        ("vouchers.voucher.purchased.v1", {"payment_method": "barter"}, "barter"),
        ("payments.payment.succeeded.v1", {"completed_at": "yesterday"}, "date-time"),
    ],
)
def test_a_publisher_is_held_to_its_shape(kind: str, new_values: dict[str, Any], told: str) -> None:
    with pytest.raises(AssertionError, match=f"{kind}: .*{told}"):
        require_published_shape(f"services.{kind.split('.')[0]}", envelope(kind, **new_values))


def test_an_event_without_a_promised_detail_is_refused() -> None:
    event = envelope("vouchers.voucher.cancelled.v1")
    del event["data"]["new_values"]["reason"]
    with pytest.raises(AssertionError, match="reason"):
        require_published_shape("services.vouchers", event)


def test_an_event_without_a_shape_is_refused() -> None:
    event = envelope("vouchers.voucher.cancelled.v1") | {"type": "vouchers.voucher.lost.v1"}
    with pytest.raises(AssertionError, match="has no published shape"):
        require_published_shape("services.vouchers", event)


def test_no_secret_is_in_any_shape() -> None:
    names = {name for shape in SHAPES.values() for name in _named(shape)}
    assert "email" in names
    assert not names & {"password_hash", "note", "gateway_response", "next_action", "code"}


def _named(shape: Schema) -> set[str]:
    properties: dict[str, Schema] = shape.get("properties", {})
    return set(properties).union(*(_named(schema) for schema in properties.values()))


def test_files_that_are_missing_changed_or_too_many_are_found_and_mended(tmp_path: Path) -> None:
    assert files.write(tmp_path) == len(SHAPES) + 1
    assert files.drift(tmp_path) == []
    folder = files.folder_of(tmp_path, "vouchers")
    (folder / "vouchers.voucher.lost.v1.json").write_text("{}")
    (folder / "vouchers.voucher.expired.v1.json").write_text("{}")
    (folder / "vouchers.voucher.frozen.v1.json").unlink()
    assert len(files.drift(tmp_path)) == 3
    assert files.write(tmp_path) == 3
    assert files.read_shapes(tmp_path) == SHAPES


def test_other_versions_stay_beside_the_published_one(tmp_path: Path) -> None:
    files.write(tmp_path)
    folder = files.folder_of(tmp_path, "vouchers")
    coming, lost = (folder / f"vouchers.voucher.{what}.v2.json" for what in ("expired", "lost"))
    text = (folder / "vouchers.voucher.expired.v1.json").read_text()
    coming.write_text(text)
    lost.write_text(text)
    files.write(tmp_path)
    assert (coming.read_text(), lost.exists()) == (text, False)
    document = json.loads((tmp_path / files.ASYNCAPI).read_text())
    assert "vouchers.voucher.expired.v2" in document["channels"]


def test_the_asyncapi_document_names_every_event_and_who_takes_it() -> None:
    document = json.loads((CHECKOUT / files.ASYNCAPI).read_text())
    assert set(document["channels"]) == set(SHAPES) == set(document["components"]["messages"])
    sent = {operation["channel"]["$ref"] for operation in document["operations"].values()}
    assert sent == {f"#/channels/{kind}" for kind in SHAPES}
    channel = document["channels"]["payments.payment.succeeded.v1"]
    assert channel["x-queues"] == ["vouchers.payments", "audit.log"]
    assert channel["bindings"]["amqp"]["exchange"]["name"] == "carnet"


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_serves_its_own_asyncapi_document(service: str) -> None:
    app = FastAPI()
    app.include_router(
        asyncapi_router(published_shapes(f"services.{service}"), f"Carnet {service}")
    )
    async with client_of(app) as client:
        answer: httpx.Response = await client.get("/asyncapi.json")
    document = answer.json()
    assert set(document["channels"]) == set(all_schemas()[service])
    for kind, message in document["components"]["messages"].items():
        promised = published_shapes(f"services.{service}")[kind]
        assert message["payload"]["schema"]["properties"] == promised["properties"]
