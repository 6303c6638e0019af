"""Convert the bookings of version 1, in one transaction of the schema's owner.

The connection must see the rows of every organization.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, text

from services.vouchers.version_one import statements, tables
from services.vouchers.version_one.funding import Purse, UnpaidReservation, allot
from shared.change_events import Subject, event_data, new_event
from shared.context import system_origin
from shared.events import Event
from shared.outbox import append_parameters, append_statement

BATCH = 20_000
CLIENTS_AT_ONCE = 1_000
_BEFORE_THE_FIRST_ID = -(2**63)


def convert_in_place(connection: Connection) -> bool:
    """Convert the rows that an earlier upgrade wrote; return whether there were any."""
    if not connection.scalar(text(tables.EXIST_IN_PLACE)):
        return False
    create_tables(connection)
    for statement in tables.TAKE:
        connection.execute(text(statement))
    convert(connection, connection.scalar(text("SELECT now()")), in_place=True)
    drop_tables(connection)
    return True


def create_tables(connection: Connection) -> None:
    """Create the tables in which rows wait for their conversion, unless they exist."""
    for statement in tables.CREATE:
        connection.execute(text(statement))


def drop_tables(connection: Connection) -> None:
    """Drop these tables."""
    connection.execute(text(tables.DROP))


def convert(connection: Connection, as_of: datetime, *, in_place: bool) -> None:
    """Convert the waiting rows and write them: as new rows, or over those that exist."""
    moment = {"as_of": as_of}
    # The zone in which findings write their times.
    connection.execute(text("SET LOCAL TimeZone = 'UTC'"))
    _run(connection, (*statements.INDEX, *statements.CLASSES), moment)
    _add_therapists(connection, as_of)
    _run(connection, (statements.MATCH,), moment)
    _add_sessions(connection)
    _run(connection, (statements.TIMES,), moment)
    _set_local_times(connection)
    _run(connection, statements.RULES, moment)
    _earmark(connection)
    _run(connection, (statements.UNFUNDED,), moment)
    for table in (tables.SESSIONS, tables.RESERVATIONS):
        _write(connection, table, in_place=in_place)
    for statement in (tables.LINK, tables.OCCUPY):
        connection.execute(text(statement))


def _run(connection: Connection, queries: Sequence[str], moment: dict[str, Any]) -> None:
    for query in queries:
        connection.execute(text(query), moment if ":as_of" in query else {})


def _add_therapists(connection: Connection, as_of: datetime) -> None:
    """Add the therapists of classes as resources, each with its event."""
    rows = connection.execute(text(statements.THERAPISTS), {"as_of": as_of}).all()
    if rows:
        events = [_creation_of(*row) for row in rows]
        connection.exec_driver_sql(append_statement(1), append_parameters(events))


def _creation_of(resource_id: int, organization_id: int, user_id: int, is_active: bool) -> Event:
    values = {
        "id": resource_id,
        "organization_id": organization_id,
        "kind": "therapist",
        "user_id": user_id,
        "name": None,
        "timezone": None,
        "buffer_before_minutes": 0,
        "buffer_after_minutes": 0,
        "is_active": is_active,
    }
    subject = Subject("resource", resource_id, 1, organization_id)
    data = event_data("CREATE", subject, system_origin(), old={}, new=values)
    return new_event("carnet/vouchers", "vouchers.resource.created.v1", data)


def _add_sessions(connection: Connection) -> None:
    """Add the sessions that reservations name and version 1 does not have, with later ids."""
    highest = connection.scalar(text(statements.HIGHEST_ID)) or 0
    added = connection.execute(text(statements.ADD_SESSIONS), {"highest": highest}).rowcount
    if added:
        connection.execute(text(statements.CONTINUE_IDS), {"last": highest + added})
        connection.execute(text("ANALYZE upgrade_sessions"))
        connection.execute(text(statements.MATCH_ADDED))


def _set_local_times(connection: Connection) -> None:
    """Set what the clock shows at each start, by the zones of Python as everywhere else."""
    after = _BEFORE_THE_FIRST_ID
    query = text(statements.INSTANTS)
    while rows := connection.execute(query, {"after": after, "size": BATCH}).all():
        times = [
            starts_at.astimezone(ZoneInfo(zone)).replace(tzinfo=None) for _, starts_at, zone in rows
        ]
        values = {"ids": [row[0] for row in rows], "times": times}
        connection.execute(text(statements.LOCAL_TIMES), values)
        after = rows[-1][0]


def _earmark(connection: Connection) -> None:
    """Earmark sessions of vouchers for the open reservations, some clients at a time."""
    for client_ids in _clients(connection):
        clients = {"client_ids": client_ids}
        reservations = connection.execute(text(statements.OPEN_RESERVATIONS), clients).all()
        purses = connection.execute(text(statements.PURSES), clients).all()
        # The statements return the fields in their order.
        vouchers = allot(
            [UnpaidReservation(*row) for row in reservations], [Purse(*row) for row in purses]
        )
        paid_for = {id_: voucher_id for id_, voucher_id in vouchers.items() if voucher_id}
        if paid_for:
            paying = {"voucher_ids": list(paid_for.values())}
            connection.execute(text(statements.FUND), {"ids": list(paid_for), **paying})
            connection.execute(text(statements.EARMARK), paying)


def _clients(connection: Connection) -> Iterator[list[int]]:
    """Yield the clients with open reservations, some at a time."""
    after, query = _BEFORE_THE_FIRST_ID, text(statements.CLIENTS)
    values = {"after": after, "size": CLIENTS_AT_ONCE}
    while client_ids := list(connection.scalars(query, values)):
        yield client_ids
        values["after"] = client_ids[-1]


def _write(connection: Connection, table: str, *, in_place: bool) -> None:
    """Write the converted rows, a batch of ids at a time."""
    after, query = _BEFORE_THE_FIRST_ID, text(tables.END_OF_BATCH[table])
    while (last := connection.scalar(query, {"after": after, "size": BATCH})) is not None:
        for statement in tables.WRITE[table]:
            values = {"after": after, "last": last, "in_place": in_place}
            connection.execute(text(statement), values)
        after = last
