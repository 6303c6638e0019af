"""A small service for the tests of `shared`: things, with a price, a secret and an owner."""

import asyncio
from typing import Annotated, Any

import asyncpg
from fastapi import FastAPI, Query
from pydantic import BaseModel, ConfigDict
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from shared.actors import Actor
from shared.auth import ActorDep, CallingServiceDep, called_by
from shared.changes import Catalogue, record
from shared.db import SECRET, TYPES, Entity, metadata
from shared.errors import Conflict, Forbidden, NotFound, ServiceUnavailable
from shared.fields import Email, Id, Name, RequestBody, Text
from shared.money import Money
from shared.outbox import SharedBase
from shared.outbox_relay import plain_dsn
from shared.paging import PageDep
from shared.preconditions import PreconditionDep, TaggedResponse, set_etag
from shared.routing import router
from shared.service import create_service
from shared.sessions import ClaimingWorkDep, InternalSessionDep, SessionDep, WorkDep
from shared.settings import ServiceSettings
from shared.tenancy import policy_statements
from shared.testing import Database
from shared.work import Work

NAME = "sample"
LOCK = 4711
"""An advisory lock: things with a certain name wait for it in their transaction."""

CATALOGUE: Catalogue = {
    ("thing", "CREATE"): "sample.thing.created.v1",
    ("thing", "UPDATE"): "sample.thing.updated.v1",
    ("thing", "CLOSE"): "sample.thing.closed.v1",
    ("thing", "DELETE"): "sample.thing.deleted.v1",
    ("request", "DENIED"): "sample.request.denied.v1",
}


class Base(DeclarativeBase):
    """Root of the sample's tables."""

    metadata = metadata()
    type_annotation_map = TYPES


class Thing(Entity, Base):
    """What is changed in these tests."""

    __tablename__ = "things"
    entity_type = "thing"

    organization_id: Mapped[int | None]
    name: Mapped[str] = mapped_column(unique=True)
    price: Mapped[Money]
    note: Mapped[str | None]
    state: Mapped[str] = mapped_column(default="open")
    password_hash: Mapped[str | None] = mapped_column(info=SECRET)
    details: Mapped[dict[str, Any] | None]


class ThingCreate(RequestBody):
    """What a client may send."""

    name: Name
    price: Money
    note: Text | None = None
    email: Email | None = None
    count: int = 1


class ThingRead(BaseModel):
    """What a client gets."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    name: str
    price: Money
    note: str | None


class TooExpensive(Conflict):
    """This costs too much."""


things = router(prefix="/api/things")


@things.post("", status_code=201)
async def create(body: ThingCreate, session: SessionDep, actor: ActorDep) -> ThingRead:
    """Make a thing; some names make it fail in one way or another."""
    thing = Thing(
        name=body.name,
        price=body.price,
        note=body.note,
        organization_id=actor.organization_id,
        password_hash="canary-4711",
    )
    session.add(thing)
    if body.name != "unrecorded":
        record(session, "CREATE", thing)
    await session.flush()
    await _misbehave(body.name, session)
    return ThingRead.model_validate(thing)


async def _misbehave(name: str, session: Any) -> None:
    if name.startswith("slow"):
        await asyncio.sleep(0.3)
    if name.startswith("too expensive"):
        raise TooExpensive
    if name.startswith("forbidden"):
        raise Forbidden("This is for the owner.")
    if name.startswith("unavailable"):
        raise ServiceUnavailable
    if name.startswith("crash"):
        raise RuntimeError("canary-4711 must not be told")
    if name.startswith("locked out"):
        await session.execute(text(f"SELECT pg_advisory_xact_lock({LOCK})"))
    if name.startswith("broken commit"):
        # A deferred constraint fails at COMMIT, when the endpoint is long done.
        await session.execute(text("INSERT INTO pairs (id, other) VALUES (1, 2)"))


@things.post("/in-two-steps", status_code=201)
async def create_in_two_steps(body: ThingCreate, work: WorkDep, actor: ActorDep) -> ThingRead:
    """Make a thing, then do the rest: what a call to the outside world in between looks like."""
    thing_id = work.claim.resource_id if work.claim else None
    if thing_id is None:
        async with work.begin() as session:
            thing_id = await _begin_thing(session, work, body, actor)
    if body.note == "crash":
        raise RuntimeError("between the steps")
    await _misbehave(body.note or "", None)
    async with work.begin() as session:
        made = await session.get_one(Thing, thing_id)
        made.state = "done"
        record(session, "UPDATE", made)
        return ThingRead.model_validate(made)


async def _begin_thing(session: AsyncSession, work: Work, body: ThingCreate, actor: Actor) -> int:
    thing = Thing(name=body.name, price=body.price, organization_id=actor.organization_id)
    session.add(thing)
    record(session, "CREATE", thing)
    await session.flush()
    if work.claim:
        await work.claim.attach(session, thing.id)
    return thing.id


@things.post("/in-two-transactions", status_code=201)
async def create_in_two_transactions(
    body: ThingCreate, work: ClaimingWorkDep, actor: ActorDep
) -> ThingRead:
    """Do the same with the key in the first transaction and the response in the last one."""
    if body.name == "refused early":
        raise Forbidden("This is for the owner.")
    async with work.begin_first() as session:
        await work.lease_and_fetch(session, "SELECT")
        thing_id = work.claim.resource_id if work.claim else None
        if thing_id is None:
            thing_id = await _begin_thing(session, work, body, actor)
        await _misbehave(body.name, session)
    if body.note == "crash":
        raise RuntimeError("between the transactions")
    await _misbehave(body.note or "", None)
    async with work.begin_last() as session:
        made = await session.get_one(Thing, thing_id)
        made.state = "done"
        record(session, "UPDATE", made)
        if body.note == "refused inside":
            raise TooExpensive
    if body.note == "refused at last":
        raise TooExpensive
    return None if body.note == "unreadable" else ThingRead.model_validate(made)  # type: ignore[return-value]


@things.get("")
async def list_things(
    session: SessionDep,
    actor: ActorDep,
    page: PageDep,
    state: Annotated[Name | None, Query()] = None,
) -> list[ThingRead]:
    """List the actor's things, those of a state or all."""
    statement = select(*(getattr(Thing, name) for name in ThingRead.model_fields))
    if state is not None:
        statement = statement.where(Thing.state == state)
    rows = (await session.execute(page.of(statement, Thing.id))).all()
    return [ThingRead.model_validate(row) for row in page.cut(rows, lambda row: (row.id,))]


@things.get("/{thing_id}")
async def show(
    thing_id: Id, session: SessionDep, actor: ActorDep, response: TaggedResponse
) -> ThingRead:
    """Show a thing."""
    thing = await session.get(Thing, thing_id)
    if thing is None:
        raise NotFound
    set_etag(response, thing.version)
    return ThingRead.model_validate(thing)


@things.put("/{thing_id}")
async def change(
    thing_id: Id,
    body: ThingCreate,
    session: SessionDep,
    actor: ActorDep,
    precondition: PreconditionDep,
    response: TaggedResponse,
) -> ThingRead:
    """Change a thing."""
    await _misbehave(body.name, session)
    thing = await session.get_one(Thing, thing_id, with_for_update=True)
    precondition.check(thing.version)
    thing.name, thing.price, thing.note = body.name, body.price, body.note
    record(session, "UPDATE", thing)
    await session.flush()
    set_etag(response, thing.version)
    return ThingRead.model_validate(thing)


internal = router(prefix="/internal/things", include_in_schema=False)


@internal.get("/caller", dependencies=[called_by("audit", "vouchers")])
async def caller(caller: CallingServiceDep, session: InternalSessionDep) -> dict[str, Any]:
    """Return who calls."""
    count = len((await session.scalars(select(Thing.id))).all())
    return {"name": caller.name, "user_id": caller.user_id, "role": caller.role, "sees": count}


def create_app(settings: ServiceSettings) -> FastAPI:
    """Return the sample's application."""
    return create_service(NAME, settings, CATALOGUE, [things, internal], title="Sample")


async def create_schema(database: Database) -> None:
    """Make the sample's tables, as the owner of its schema."""
    from sqlalchemy.ext.asyncio import create_async_engine

    engine = create_async_engine(database.owner_url.get_secret_value())
    async with engine.begin() as connection:
        await connection.run_sync(SharedBase.metadata.create_all)
        await connection.run_sync(Base.metadata.create_all)
    await engine.dispose()
    owner = await asyncpg.connect(plain_dsn(database.owner_url))
    try:
        for statement in policy_statements("things"):
            await owner.execute(statement)
        await owner.execute(
            "CREATE TABLE pairs (id bigint PRIMARY KEY,"
            " other bigint REFERENCES pairs DEFERRABLE INITIALLY DEFERRED,"
            " ordinal bigint GENERATED ALWAYS AS IDENTITY)"
        )
    finally:
        await owner.close()
