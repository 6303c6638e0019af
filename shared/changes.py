"""`record`: a change of an audited row becomes one event, and nothing escapes it.

Old and new values come from the ORM's own history. History is gone after a flush, and any query
may flush, so a listener keeps what each flush is about to forget; at the end of the transaction
`seal` turns what was recorded into outbox rows, and refuses to go on when an audited row changed
and nobody said why.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from sqlalchemy import event, inspect
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import ORMExecuteState, Session, SessionTransaction
from sqlalchemy.orm.state import InstanceState
from uuid_utils import uuid7

from shared import outbox
from shared.context import Origin
from shared.db import BOOKKEEPING, SECRET, Entity, now
from shared.events import Event, EventActor, EventData

Catalogue = Mapping[tuple[str, str], str]
"""(entity_type, action) → event type: everything a service publishes, written out."""

Values = dict[str, Any]

_LOG = "carnet.changes"


class UnrecordedChange(RuntimeError):
    """An audited row changed in a transaction that recorded nothing of it: a bug in a handler."""


@dataclass(slots=True)
class Change:
    """One recorded change; values of a new row are read when its id is known."""

    action: str
    entity: Entity
    origin: Origin
    old: Values = field(default_factory=dict)
    new: Values = field(default_factory=dict)
    created: bool = False


@dataclass(slots=True)
class Fact:
    """Something that happened and changed no row of ours."""

    action: str
    entity_type: str
    entity_id: int | None
    organization_id: int | None
    origin: Origin
    details: Values


class ChangeLog:
    """What one transaction changed, and what it recorded."""

    def __init__(self, source: str, catalogue: Catalogue, origin: Origin) -> None:
        self.source = source
        self.catalogue = catalogue
        self.origin = origin
        self.changes: list[Change] = []
        self.facts: list[Fact] = []
        self.touched: dict[Entity, Values] = {}
        self.created: set[Entity] = set()
        self.deleted: set[Entity] = set()
        self.in_bulk: set[str] = set()
        self.told: dict[Entity, Values] = {}
        self.savepoints: dict[SessionTransaction, ChangeLog] = {}

    def reset(self) -> None:
        """Forget everything: the transaction it belonged to was rolled back or has ended."""
        self.take_over(ChangeLog(self.source, self.catalogue, self.origin))
        self.savepoints.clear()

    def begin_savepoint(self, savepoint: SessionTransaction) -> None:
        """Keep what is known now, in case that the savepoint takes the rest back."""
        kept = ChangeLog(self.source, self.catalogue, self.origin)
        kept.take_over(self)
        self.savepoints[savepoint] = kept

    def take_back(self, savepoint: SessionTransaction) -> None:
        """Forget what happened since a savepoint that was rolled back."""
        if (kept := self.savepoints.pop(savepoint, None)) is not None:
            self.take_over(kept)

    def take_over(self, other: "ChangeLog") -> None:
        """Know exactly what another log knows."""
        self.changes, self.facts = list(other.changes), list(other.facts)
        self.touched = {entity: dict(before) for entity, before in other.touched.items()}
        self.created, self.deleted = set(other.created), set(other.deleted)
        self.in_bulk, self.told = set(other.in_bulk), dict(other.told)

    def require_published(self, entity_type: str, action: str) -> None:
        """Raise KeyError when the service publishes no such event."""
        if (entity_type, action) not in self.catalogue:
            raise KeyError(f"{self.source} publishes no event for {entity_type} {action}")

    def record(self, action: str, entity: Entity, details: Values) -> None:
        """Note why the entity changed, with its values as they are now."""
        self.require_published(entity.entity_type, action)
        self.touch(entity)
        change = Change(action, entity, self.origin)
        if entity in self.created:
            self._tell_new_row(entity, change)
        else:
            self._take_differences(entity, change)
            if action == "DELETE" or entity in self.deleted:
                # A row that is kept under a pseudonym has new values too.
                change.old = _snapshot(entity) | change.old
        change.new |= details
        self.changes.append(change)

    def _tell_new_row(self, entity: Entity, change: Change) -> None:
        """Tell a new row as it is now, or what became of it since it was told."""
        current, told = _set_values(entity), self.told.get(entity)
        if told is None:
            change.created, change.new = True, current
        else:
            changed = [name for name, old in told.items() if current[name] != old]
            change.old = {name: told[name] for name in changed}
            change.new = {name: current[name] for name in changed}
        # A copy: details join the change, and are no columns.
        self.told[entity] = dict(current)

    def _take_differences(self, entity: Entity, change: Change) -> None:
        loaded = inspect(entity).dict
        before = self.touched[entity]
        for name, old in before.items():
            if name in loaded and loaded[name] != old:
                change.old[name], change.new[name] = old, loaded[name]
        # What was just recorded is the base of what may be recorded next.
        self.touched[entity] = before | change.new

    def touch(self, entity: Entity) -> None:
        """Keep what the coming flush is about to forget: the values that the row had before."""
        state: InstanceState[Any] = inspect(entity)
        if entity in self.created or state.transient or state.pending:
            self.created.add(entity)
            return
        before = self.touched.setdefault(entity, {})
        for name in _audited(entity):
            history = state.attrs[name].load_history() if name in state.dict else None
            if history and history.deleted and name not in before:
                before[name] = history.deleted[0]
            elif history and history.added and name not in before:
                before[name] = None

    def unrecorded(self) -> list[str]:
        """Name every audited row whose change nobody recorded."""
        recorded = {change.entity for change in self.changes}
        types = {change.entity.entity_type for change in self.changes}
        missing = [_name(e) for e in (self.created | self.deleted) if e not in recorded]
        for entity, before in self.touched.items():
            changed = [name for name, old in before.items() if getattr(entity, name) != old]
            if changed and entity not in self.deleted:
                missing.append(f"{_name(entity)}: {', '.join(changed)}")
        return missing + [f"{kind} (in bulk)" for kind in self.in_bulk - types]

    def events(self) -> list[Event]:
        """Return one event for each recorded change and fact, each in the order of recording."""
        changes = [self._event_of_change(change) for change in self.changes]
        return changes + [self._event_of_fact(fact) for fact in self.facts]

    def _event_of_change(self, change: Change) -> Event:
        entity = change.entity
        if change.created:
            change.new = _snapshot(entity) | change.new
        data = EventData(
            action=change.action,
            entity_type=entity.entity_type,
            entity_id=entity.id,
            entity_version=entity.version,
            organization_id=entity.audited_organization_id,
            actor=_actor(change.origin),
            correlation_id=change.origin.correlation_id,
            causation_id=change.origin.causation_id,
            old_values=_plain(change.old),
            new_values=_plain(change.new),
        )
        return self._event(data)

    def _event_of_fact(self, fact: Fact) -> Event:
        data = EventData(
            action=fact.action,
            entity_type=fact.entity_type,
            entity_id=fact.entity_id,
            entity_version=0,
            organization_id=fact.organization_id,
            actor=_actor(fact.origin),
            correlation_id=fact.origin.correlation_id,
            causation_id=fact.origin.causation_id,
            old_values={},
            new_values=_plain(fact.details),
        )
        return self._event(data)

    def _event(self, data: EventData) -> Event:
        return Event(
            id=str(uuid7()),
            source=self.source,
            type=self.catalogue[data.entity_type, data.action],
            time=now(),
            subject=f"{data.entity_type}/{data.entity_id or 'unknown'}",
            data=data,
        )


def _actor(origin: Origin) -> EventActor:
    return EventActor(
        user_id=origin.user_id,
        role=origin.role,
        ip_address=origin.ip_address,
        user_agent=origin.user_agent,
    )


def change_log(session: AsyncSession | Session) -> ChangeLog:
    """Return the change log of a session."""
    log: ChangeLog = session.info[_LOG]
    return log


def attach(session: AsyncSession, log: ChangeLog) -> None:
    """Give a new session its change log."""
    session.info[_LOG] = log


def record(session: AsyncSession, action: str, entity: Entity, **details: Any) -> None:
    """Record why an entity changed; it becomes one event when the transaction commits.

    Call it after the change. Neither flushes nor commits. `details` are added to the event's new
    values (a reason, for instance). Raises KeyError when the service publishes no such event.
    """
    change_log(session).record(action, entity, details)


def note(
    session: AsyncSession,
    action: str,
    entity_type: str,
    *,
    entity_id: int | None = None,
    organization_id: int | None = None,
    details: Values,
    origin: Origin | None = None,
) -> None:
    """Record what happened without changing a row of ours: a sign-in to no account, for instance.

    Its event has version 0, so services that keep copies ignore it. `origin` is where
    it came from, if that was not this transaction. Raises KeyError when the service publishes no
    such event.
    """
    log = change_log(session)
    log.require_published(entity_type, action)
    fact = Fact(action, entity_type, entity_id, organization_id, origin or log.origin, details)
    log.facts.append(fact)


def act_as(session: AsyncSession, user_id: int, role: str) -> None:
    """Attribute the changes recorded from here on to a user that was recognized just now."""
    log = change_log(session)
    log.origin = log.origin.acting(user_id, role)


async def seal(session: AsyncSession) -> None:
    """End a transaction's work: flush, refuse unrecorded changes, write the outbox.

    Raises UnrecordedChange when an audited row changed and nothing was recorded of it.
    """
    await session.flush()
    log = change_log(session)
    for entity in log.created | log.touched.keys():
        # A savepoint that was taken back leaves rows whose values must be read again.
        if inspect(entity).persistent and inspect(entity).expired_attributes:
            await session.refresh(entity)
    if missing := log.unrecorded():
        raise UnrecordedChange("; ".join(sorted(missing)))
    await outbox.append(session, log.events())
    log.reset()


_AUDITED: dict[type[Entity], tuple[str, ...]] = {}


def audited_columns(kind: type[Entity]) -> tuple[str, ...]:
    """Return the names of the columns that a model's events may hold."""
    if kind not in _AUDITED:
        _AUDITED[kind] = tuple(
            attribute.key
            for attribute in inspect(kind).column_attrs
            if not attribute.columns[0].info.keys() & (SECRET | BOOKKEEPING)
        )
    return _AUDITED[kind]


def _audited(entity: Entity) -> tuple[str, ...]:
    return audited_columns(type(entity))


def _snapshot(entity: Entity) -> Values:
    return {name: getattr(entity, name) for name in _audited(entity)}


def _set_values(entity: Entity) -> Values:
    """Return a new row's values, but for those that only the insert will tell, as its id."""
    loaded, columns = inspect(entity).dict, inspect(type(entity)).columns
    values: Values = {}
    for name in _audited(entity):
        default = columns[name].default
        if name in loaded:
            values[name] = loaded[name]
        elif default is not None and default.is_scalar:
            values[name] = default.arg
        elif default is None and columns[name].server_default is None and name != "id":
            values[name] = None
    return values


def _name(entity: Entity) -> str:
    return f"{entity.entity_type} {inspect(entity).identity or 'new'}"


def _plain(values: Values) -> Values:
    return {name: _plain_value(value) for name, value in values.items()}


def _plain_value(value: Any) -> Any:
    """Turn a column's value into what JSON can hold without losing anything: money as text."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Decimal | UUID):
        return str(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return value


class AuditedSession(Session):
    """The session whose flushes are watched."""


@event.listens_for(AuditedSession, "before_flush")
def _keep_history(session: Session, _context: Any, _instances: Any) -> None:
    log = session.info.get(_LOG)
    if log is None:
        return
    for instance in [*session.new, *session.dirty]:
        if isinstance(instance, Entity):
            log.touch(instance)
    log.deleted.update(row for row in session.deleted if isinstance(row, Entity))


@event.listens_for(AuditedSession, "do_orm_execute")
def _notice_bulk_changes(state: ORMExecuteState) -> None:
    log = state.session.info.get(_LOG)
    if log is not None and (state.is_update or state.is_delete or state.is_insert):
        table = getattr(state.statement, "table", None)
        log.in_bulk.update(kind.entity_type for kind in _entities() if kind.__table__ == table)


def _entities(root: type[Any] = Entity) -> Iterator[type[Any]]:
    """Yield every audited model."""
    for kind in root.__subclasses__():
        if hasattr(kind, "__table__"):
            yield kind
        yield from _entities(kind)


@event.listens_for(AuditedSession, "after_transaction_create")
def _begin_savepoint(session: Session, transaction: SessionTransaction) -> None:
    if transaction.nested and (log := session.info.get(_LOG)) is not None:
        log.begin_savepoint(transaction)


@event.listens_for(AuditedSession, "after_soft_rollback")
def _take_back(session: Session, transaction: SessionTransaction) -> None:
    # A flush that fails is a transaction inside the savepoint, and takes it down with itself.
    savepoint: SessionTransaction | None = transaction
    while savepoint is not None and not savepoint.nested:
        savepoint = savepoint.parent
    if savepoint is not None and (log := session.info.get(_LOG)) is not None:
        log.take_back(savepoint)
