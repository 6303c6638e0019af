"""`Writes`: rows of the busiest paths, written together with their events in one statement.

It is used beside the ORM, in the same transaction:

    writes = Writes(session)
    book = writes.insert(Book, {"organization_id": 7, "title": title}, action="CREATE")
    writes.insert_many(Page, [{"book_id": book.id, "text": text} for text in texts])
    writes.change(Shelf, shelf, {"books": shelf["books"] + 1}, action="FILL", details={"why": why})
    await writes.send()
    book.id, book["created_at"]  # the statement has assigned the id

An audited row cannot be written without the action that its event names, so `record` and its guard
are not needed. Values, defaults, versions and events are those of the ORM; a test compares them for
every audited model. All that differs:

- `send` executes one statement. Nothing is written before, and a transaction with writes that were
  not sent does not commit. In one statement a row is written once.
- Events are in the order of the calls, and before those that the session records.
- A row that the session has loaded is expired when it is changed here: refresh it before its
  attributes are read. A row that the session itself has changed in the transaction is refused.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import inspect
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm.exc import StaleDataError

from shared import outbox
from shared.change_events import Subject, audited_columns, event_data
from shared.changes import UnrecordedChange, change_log
from shared.connections import fetch, flush_changes
from shared.db import Entity
from shared.events import EventData
from shared.pending_writes import (
    BulkWrite,
    RowWrite,
    Write,
    WrittenRow,
    WrittenRows,
    shapes_and_parameters,
)
from shared.row_formats import Model, NewId, format_of, require_audited, require_unaudited
from shared.row_statements import WriteShape, places_of_new_ids, statement_of


class Writes:
    """The writes of one transaction. All `Writes` of a session are the same."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session
        self._log = change_log(session)

    def insert(
        self,
        kind: type[Entity],
        values: Mapping[str, Any],
        *,
        action: str,
        details: Mapping[str, Any] | None = None,
    ) -> WrittenRow:
        """Add a new row and its event. `details` are added to the event's new values.

        Raises KeyError when the service publishes no such event, and TypeError for an unknown
        column, or if a column's default, which the event needs, is known to the server only.
        """
        require_audited(kind)
        if "version" in values:
            raise TypeError(f"{kind.__name__}: a new row has its first version")
        model = format_of(kind)
        row, parameters = model.new_row(values)
        names = tuple(row)
        new_id = None if "id" in row else NewId.unique()
        if new_id is not None:
            row["id"] = new_id
        if missing := model.columns.keys() - row.keys():
            raise TypeError(f"{kind.__name__}: give {', '.join(sorted(missing))}")
        new = {name: row[name] for name in audited_columns(kind)}
        event = self._event(kind, action, row, old={}, new=new, details=details)
        shape, result = WriteShape("insert", kind, names), WrittenRow(kind, row)
        self._log.unsent.append(RowWrite(shape, parameters, result, event, new_id))
        return result

    def change(
        self,
        kind: type[Entity],
        row: Mapping[Any, Any],
        new: Mapping[str, Any],
        *,
        action: str | None,
        details: Mapping[str, Any] | None = None,
    ) -> WrittenRow:
        """Change columns of a row, and add its event with the values that differ.

        `row` has the row's id, its version, the present values of the columns in `new`, and those
        that name its organization; for the action DELETE, of a row that remains, all columns. The
        row is changed if it still has that version: `send` raises StaleDataError otherwise.
        Without an action only columns that events never contain may change.

        Raises KeyError for a missing value or an unpublished event, TypeError for an unknown
        column, ValueError for a row that is written in the same statement already, and
        UnrecordedChange for a column that needs an action.
        """
        require_audited(kind)
        self._require_unwritten(kind, row["id"])
        model, version = format_of(kind), row["version"]
        model.require_columns(new)
        changed = {name: value for name, value in new.items() if row[name] != value}
        audited = audited_columns(kind)
        old = {name: row[name] for name in audited if action == "DELETE" or name in changed}
        new = {name: changed[name] for name in audited if name in changed}
        shape = None
        if changed:
            changed = model.changed_columns({**changed, "version": model.next_version(version)})
            shape = WriteShape("change", kind, tuple(changed), keys=("id", "version"))
        result = WrittenRow(kind, {**row, **changed})
        event = None
        if action is not None:
            event = self._event(kind, action, result.values, old=old, new=new, details=details)
        elif new:
            raise UnrecordedChange(f"{kind.entity_type} {row['id']}: {', '.join(new)}")
        parameters = [*model.parameters(changed), row["id"], version]
        if shape or event:
            self._log.unsent.append(RowWrite(shape, parameters, result, event))
        return result

    def insert_many(
        self,
        kind: Model,
        rows: Sequence[Mapping[str, Any]],
        *,
        returning: tuple[str, ...] = (),
        skip_existing: bool = False,
    ) -> WrittenRows:
        """Add rows of a model that is not audited, in their order.

        All rows have the same columns. A column whose value is a NewId has the same in all rows.
        With `skip_existing` a row that a unique constraint refuses is left out. Raises TypeError
        for an audited model or an unknown column.
        """
        require_unaudited(kind)
        result = WrittenRows()
        if not rows:
            return result
        columns = format_of(kind).new_columns(rows)
        shape = WriteShape(
            "insert_many", kind, tuple(columns), returning=returning, skip_existing=skip_existing
        )
        parameters = [_same_id(values) or values for values in columns.values()]
        self._log.unsent.append(BulkWrite(shape, parameters, result))
        return result

    def update(
        self,
        kind: Model,
        values: Mapping[str, Any],
        *,
        where: Mapping[str, Any],
        returning: tuple[str, ...] = (),
    ) -> WrittenRows:
        """Change the rows of a model that is not audited whose columns have the values of `where`.

        Raises TypeError for an audited model or an unknown column.
        """
        require_unaudited(kind)
        model = format_of(kind)
        model.require_columns(where)
        changed = model.changed_columns(values)
        keys = {name: value for name, value in where.items() if value is not None}
        shape = WriteShape(
            "update",
            kind,
            tuple(changed),
            keys=tuple(keys),
            null_keys=tuple(name for name in where if name not in keys),
            returning=returning,
        )
        result = WrittenRows()
        parameters = [*model.parameters(changed), *model.parameters(keys)]
        self._log.unsent.append(BulkWrite(shape, parameters, result))
        return result

    async def send(self) -> None:
        """Execute what was added since the last call, as one statement.

        Changes of the session are flushed first. Raises StaleDataError when a row no longer has
        its version (the transaction then does not commit), and SQLAlchemy's errors, as a flush
        does: IntegrityError for a violated constraint.
        """
        session, log = self._session, self._log
        await flush_changes(session)
        writes, log.unsent = log.unsent, []
        if not writes:
            return
        self._expire_loaded_rows(writes)
        sent = [write for write in writes if write.shape is not None]
        events = [log.event(write.event) for write in writes if write.event is not None]
        shapes, parameters = shapes_and_parameters(sent)
        if events:
            new_ids = [sent[place].new_id for place in places_of_new_ids(shapes)]
            parameters += [str(int(new_id)) for new_id in new_ids if new_id is not None]
            parameters += outbox.append_parameters(events)
        statement = statement_of(shapes, with_events=bool(events))
        [row] = await fetch(session, statement, *parameters)
        results = iter(row.values())
        try:
            for write in sent:
                write.take(results)
        except StaleDataError as error:
            log.stale = str(error)
            raise

    def _event(
        self,
        kind: type[Entity],
        action: str,
        row: Mapping[str, Any],
        *,
        old: Mapping[str, Any],
        new: Mapping[str, Any],
        details: Mapping[str, Any] | None,
    ) -> EventData:
        log = self._log
        log.require_published(kind.entity_type, action)
        organization_id = format_of(kind).organization_of(row)
        subject = Subject(kind.entity_type, int(row["id"]), row["version"], organization_id)
        return event_data(action, subject, log.origin, old=old, new={**new, **(details or {})})

    def _require_unwritten(self, kind: type[Entity], id_: int) -> None:
        for write in self._log.unsent:
            row = write.result
            if isinstance(row, WrittenRow) and row.kind is kind and row.id == id_:
                raise ValueError(f"{kind.entity_type} {id_} has an unsent write: send that first")

    def _expire_loaded_rows(self, writes: Sequence[Write]) -> None:
        """Expire the session's copies of rows that are changed.

        Raises RuntimeError if the session itself has changed one: the events of both changes would
        be in the wrong order.
        """
        identity_map, log = self._session.identity_map, self._log
        if not identity_map:
            return
        entities = log.created | {change.entity for change in log.changes}
        entities |= {entity for entity, old in log.touched.items() if old}
        for row in (write.result for write in writes if write.shape and not write.new_id):
            if not isinstance(row, WrittenRow):
                continue
            key = inspect(row.kind).identity_key_from_primary_key((row.id,))
            if (entity := identity_map.get(key)) is None:
                continue
            if entity in entities:
                raise RuntimeError(f"{row.kind.__name__} {row.id} was changed through the session")
            self._session.expire(entity)


def _same_id(values: Sequence[Any]) -> NewId | None:
    """Return the new id that all values are, or None. Raises TypeError if only some are one."""
    first = values[0]
    if all(value is first for value in values):
        return first if isinstance(first, NewId) else None
    if any(isinstance(value, NewId) for value in values):
        raise TypeError("a column has different new ids: send their rows first")
    return None
