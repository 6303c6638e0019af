"""`record`: every change of an audited row becomes one event.

Old and new values are read from the ORM's history. A flush clears the history, and any query may
flush, so a listener copies it before each flush. At the end of the transaction `seal` writes what
was recorded to the outbox, and raises an error if an audited row changed and nothing was recorded.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import event, inspect
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import ORMExecuteState, Session, SessionTransaction
from sqlalchemy.orm.exc import StaleDataError
from sqlalchemy.orm.state import InstanceState

from shared import outbox
from shared.change_events import (
    Subject,
    Values,
    audited_columns,
    event_data,
    new_event,
    new_event_id,
)
from shared.connections import flush_changes
from shared.context import Origin, system_origin
from shared.db import Entity
from shared.events import Event, EventData
from shared.pending_writes import Write

Catalogue = Mapping[tuple[str, str], str]
"""(entity_type, action) → event type: all events that a service publishes."""

_LOG = "carnet.changes"


class UnrecordedChange(RuntimeError):
    """An audited row changed in a transaction that did not record the change: a bug."""


@dataclass(slots=True)
class Change:
    """A recorded change of a row. The values of a new row are read once it has an id."""

    action: str
    entity: Entity
    origin: Origin
    old: Values = field(default_factory=dict)
    new: Values = field(default_factory=dict)
    created: bool = False
    event_id: str | None = None
    """The id of its event, if it had to be known before the event is written."""


@dataclass(slots=True)
class Fact:
    """A recorded event that changed no audited row."""

    action: str
    entity_type: str
    entity_id: int | None
    organization_id: int | None
    origin: Origin
    details: Values


class ChangeLog:
    """The changes of one transaction, and what it recorded of them."""

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
        self.recorded_values: dict[Entity, Values] = {}
        """The values that the last event of a new row has."""
        self.unsent: list[Write] = []
        """What `shared.writes` is to write with its next statement."""
        self.stale: str | None = None
        """The row that a write of `shared.writes` did not find in the version that it had."""
        self.savepoints: dict[SessionTransaction, ChangeLog] = {}

    def reset(self) -> None:
        """Start empty: the transaction was rolled back or has ended."""
        self.copy_from(ChangeLog(self.source, self.catalogue, self.origin))
        self.savepoints.clear()

    def begin_savepoint(self, savepoint: SessionTransaction) -> None:
        """Copy the present state, in case the savepoint is rolled back."""
        copy = ChangeLog(self.source, self.catalogue, self.origin)
        copy.copy_from(self)
        self.savepoints[savepoint] = copy

    def roll_back_to(self, savepoint: SessionTransaction) -> None:
        """Return to the state at the beginning of a savepoint that was rolled back."""
        if (copy := self.savepoints.pop(savepoint, None)) is not None:
            self.copy_from(copy)

    def copy_from(self, other: "ChangeLog") -> None:
        """Take the state of another log."""
        self.changes, self.facts = list(other.changes), list(other.facts)
        self.touched = {entity: dict(before) for entity, before in other.touched.items()}
        self.created, self.deleted = set(other.created), set(other.deleted)
        self.in_bulk, self.recorded_values = set(other.in_bulk), dict(other.recorded_values)
        self.unsent, self.stale = list(other.unsent), other.stale

    def require_published(self, entity_type: str, action: str) -> None:
        """Raise KeyError when the service does not publish such an event."""
        if (entity_type, action) not in self.catalogue:
            raise KeyError(f"{self.source} publishes no event for {entity_type} {action}")

    def record(self, action: str, entity: Entity, details: Values) -> None:
        """Record the action that changed the entity, with its present values."""
        self.require_published(entity.entity_type, action)
        self.touch(entity)
        change = Change(action, entity, self.origin)
        if entity in self.created:
            self._take_new_values(entity, change)
        else:
            self._take_differences(entity, change)
            if action == "DELETE" or entity in self.deleted:
                # A row that remains with a pseudonym has new values too.
                change.old = _snapshot(entity) | change.old
        change.new |= details
        self.changes.append(change)

    def _take_new_values(self, entity: Entity, change: Change) -> None:
        """Take all values of a new row, or those that changed after its last recorded change."""
        current, last = _set_values(entity), self.recorded_values.get(entity)
        if last is None:
            change.created, change.new = True, current
        else:
            names = [name for name, old in last.items() if current[name] != old]
            change.old = {name: last[name] for name in names}
            change.new = {name: current[name] for name in names}
        # A copy: details are added to the change, and are not columns.
        self.recorded_values[entity] = dict(current)

    def _take_differences(self, entity: Entity, change: Change) -> None:
        current = inspect(entity).dict
        before = self.touched[entity]
        for name, old in before.items():
            if name in current and current[name] != old:
                change.old[name], change.new[name] = old, current[name]
        # The next change of the row is recorded against these values.
        self.touched[entity] = before | change.new

    def touch(self, entity: Entity) -> None:
        """Copy the values that the row had before; the next flush clears them."""
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
        """Return the name of every audited row whose change was not recorded."""
        entities = {change.entity for change in self.changes}
        types = {change.entity.entity_type for change in self.changes}
        missing = [_name(e) for e in (self.created | self.deleted) if e not in entities]
        for entity, before in self.touched.items():
            names = [name for name, old in before.items() if getattr(entity, name) != old]
            if names and entity not in self.deleted:
                missing.append(f"{_name(entity)}: {', '.join(names)}")
        return missing + [f"{kind} (in bulk)" for kind in self.in_bulk - types]

    def event_id_of(self, entity: Entity) -> str | None:
        """Return the id of the last recorded event of an entity, or None if there is none."""
        for change in reversed(self.changes):
            if change.entity is entity:
                change.event_id = change.event_id or new_event_id()
                return change.event_id
        return None

    def events(self) -> list[Event]:
        """Return one event for each recorded change, then one for each fact."""
        changes = [self._event_of_change(change) for change in self.changes]
        return changes + [self._event_of_fact(fact) for fact in self.facts]

    def _event_of_change(self, change: Change) -> Event:
        entity = change.entity
        if change.created:
            change.new = _snapshot(entity) | change.new
        subject = Subject(
            entity.entity_type, entity.id, entity.version, entity.audited_organization_id
        )
        data = event_data(change.action, subject, change.origin, old=change.old, new=change.new)
        return self.event(data, change.event_id)

    def _event_of_fact(self, fact: Fact) -> Event:
        subject = Subject(fact.entity_type, fact.entity_id, 0, fact.organization_id)
        return self.event(event_data(fact.action, subject, fact.origin, old={}, new=fact.details))

    def event(self, data: EventData, event_id: str | None = None) -> Event:
        """Return a new event of this service with the data."""
        event_type = self.catalogue[data.entity_type, data.action]
        return new_event(self.source, event_type, data, event_id)


def change_log(session: AsyncSession | Session) -> ChangeLog:
    """Return the change log of a session."""
    log: ChangeLog = session.info[_LOG]
    return log


def attach(session: AsyncSession, log: ChangeLog) -> None:
    """Set the change log of a new session."""
    session.info[_LOG] = log


def record(session: AsyncSession, action: str, entity: Entity, **details: Any) -> None:
    """Record the action that changed an entity: one event when the transaction commits.

    Call it after the change. It neither flushes nor commits. `details` are added to the event's
    new values (a reason, for instance). Raises KeyError when the service publishes no such event.
    """
    change_log(session).record(action, entity, details)


def record_fact(
    session: AsyncSession,
    action: str,
    entity_type: str,
    *,
    entity_id: int | None = None,
    organization_id: int | None = None,
    details: Values,
    origin: Origin | None = None,
) -> None:
    """Record an event that changes no audited row: a sign-in without an account, for instance.

    The event has version 0, so services with copies ignore it. `origin` replaces that of the
    transaction. Raises KeyError when the service publishes no such event.
    """
    log = change_log(session)
    log.require_published(entity_type, action)
    fact = Fact(action, entity_type, entity_id, organization_id, origin or log.origin, details)
    log.facts.append(fact)


def act_as(session: AsyncSession, user_id: int, role: str) -> None:
    """Attribute the changes that are recorded from now on to a user who was just identified."""
    log = change_log(session)
    log.origin = log.origin.acting(user_id, role)


@contextmanager
def consequence_of(session: AsyncSession, cause: Entity | None) -> Iterator[None]:
    """Attribute what is recorded in the block to the system instead of the user.

    Its cause is the last recorded event of the entity `cause`, and it has the correlation id of the
    request: the audit trail shows who made the change that it follows from.
    """
    log = change_log(session)
    own_origin = log.origin
    event_id = log.event_id_of(cause) if cause is not None else own_origin.causation_id
    log.origin = system_origin(own_origin.correlation_id, event_id)
    try:
        yield
    finally:
        log.origin = own_origin


async def seal(session: AsyncSession) -> None:
    """Flush, and write an event for each recorded change to the outbox.

    Raises UnrecordedChange when an audited row changed and the change was not recorded, or was not
    sent, and StaleDataError when a write did not find its row.
    """
    await flush_changes(session)
    log = change_log(session)
    if log.unsent:
        raise UnrecordedChange(f"{len(log.unsent)} writes were not sent")
    if log.stale:
        raise StaleDataError(log.stale)
    for entity in log.created | log.touched.keys():
        # After a savepoint was rolled back the values of its rows must be read again.
        if inspect(entity).persistent and inspect(entity).expired_attributes:
            await session.refresh(entity)
    if missing := log.unrecorded():
        raise UnrecordedChange("; ".join(sorted(missing)))
    await outbox.append(session, log.events())
    log.reset()


def _audited(entity: Entity) -> tuple[str, ...]:
    return audited_columns(type(entity))


def _snapshot(entity: Entity) -> Values:
    return {name: getattr(entity, name) for name in _audited(entity)}


def _set_values(entity: Entity) -> Values:
    """Return a new row's values without those that the insert generates, such as its id."""
    current, columns = inspect(entity).dict, inspect(type(entity)).columns
    values: Values = {}
    for name in _audited(entity):
        default = columns[name].default
        if name in current:
            values[name] = current[name]
        elif default is not None and default.is_scalar:
            values[name] = default.arg
        elif default is None and columns[name].server_default is None and name != "id":
            values[name] = None
    return values


def _name(entity: Entity) -> str:
    return f"{entity.entity_type} {inspect(entity).identity or 'new'}"


class AuditedSession(Session):
    """A session whose flushes are observed by the listeners below."""


@event.listens_for(AuditedSession, "before_flush")
def _copy_history(session: Session, _context: Any, _instances: Any) -> None:
    log = session.info.get(_LOG)
    if log is None:
        return
    for instance in [*session.new, *session.dirty]:
        if isinstance(instance, Entity):
            log.touch(instance)
    log.deleted.update(row for row in session.deleted if isinstance(row, Entity))


@event.listens_for(AuditedSession, "do_orm_execute")
def _record_bulk_changes(state: ORMExecuteState) -> None:
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
def _roll_back(session: Session, transaction: SessionTransaction) -> None:
    # A flush is a transaction inside the savepoint; if it fails, the savepoint is rolled back too.
    savepoint: SessionTransaction | None = transaction
    while savepoint is not None and not savepoint.nested:
        savepoint = savepoint.parent
    if savepoint is not None and (log := session.info.get(_LOG)) is not None:
        log.roll_back_to(savepoint)
