"""Retention: old months become files, the chains stay whole, nothing is removed unseen."""

import asyncio
import gzip
import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from services.audit.evidence.archives import RowAltered
from services.audit.evidence.sealed_heads import Evidence
from services.audit.retention import archive_due
from services.audit.service.retention import months_due
from services.audit.service.verification import verify_chain, verify_everything
from services.audit.settings import RetentionSettings
from services.audit.tests.conftest import deliver, event, rows_of
from shared.events import Event
from shared.testing import Database
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 11, 23, tzinfo=UTC)
OLD, OLDER, RECENT = (datetime(y, m, 15, tzinfo=UTC) for y, m in ((2020, 10), (2019, 2), (2026, 9)))


@pytest.fixture
def retention(database: Database, tmp_path: Path) -> RetentionSettings:
    return RetentionSettings(owner_database_url=database.owner_url, archive=tmp_path / "archive")


async def tell(database: Database, transactions: Transactions) -> None:
    """Deliver what waits in the outbox, as relay and broker would."""
    waiting = [Event.model_validate(body) for body in await database.events()]
    await deliver(transactions, *waiting)


async def failures(transactions: Transactions) -> list[Any]:
    async with transactions.system() as session:
        reports = await verify_everything(session, Evidence())
    return [report.failure for report in reports if report.failure]


def test_months_are_due_when_they_ended_long_enough_ago() -> None:
    names = ["audit.audit_logs_2020_10", "audit_logs_2020_11", "audit_logs_2019_12"]
    assert months_due(names, NOW, 72) == ["audit_logs_2019_12", "audit_logs_2020_10"]
    assert months_due(names, datetime(2026, 12, 1, tzinfo=UTC), 72) == [
        "audit_logs_2019_12",
        "audit_logs_2020_10",
        "audit_logs_2020_11",
    ]


async def test_an_archived_month_leaves_whole_chains_and_a_complete_file(
    database: Database, transactions: Transactions, retention: RetentionSettings
) -> None:
    person = {"name": "Anna Nowak"}
    # Late events lie between others, so a month's pieces of a chain are not in one.
    times = [OLDER, RECENT, OLDER, OLD, OLD, RECENT, OLDER]
    events = [event("CREATE", "user", 7, time=time, new_values=person) for time in times]
    await deliver(transactions, *events, event(organization_id=None, time=OLD))
    before = await rows_of(database)
    files = await archive_due(retention, NOW)
    assert [path.name for path in files] == [
        "audit_logs_2019_02-1.ndjson.gz",
        "audit_logs_2020_10-1.ndjson.gz",
    ]
    assert [row["created_at"] for row in await rows_of(database)] == [RECENT, RECENT]
    lines = [json.loads(line) for line in gzip.decompress(files[0].read_bytes()).splitlines()]
    assert [line["position"] for line in lines] == [1, 3, 7]
    assert [line["hash"] for line in lines] == [before[n]["hash"].hex() for n in (0, 2, 6)]
    assert "Anna" not in str(lines)
    assert len(await database.rows("SELECT 1 FROM personal_values")) == 2
    await tell(database, transactions)
    assert await failures(transactions) == []
    [told, _] = [e["data"]["new_values"] for e in await database.events()]
    assert told["sha256"] == hashlib.sha256(files[0].read_bytes()).hexdigest()
    assert told["rows"] == 3
    assert await archive_due(retention, NOW) == []


async def test_a_late_event_of_an_archived_month_is_kept_and_archived_in_its_turn(
    database: Database, transactions: Transactions, retention: RetentionSettings
) -> None:
    await deliver(transactions, event(time=OLD), event(time=RECENT))
    await archive_due(retention, NOW)
    await deliver(transactions, event(time=OLD))
    await tell(database, transactions)
    assert await failures(transactions) == []
    [second] = await archive_due(retention, NOW)
    assert second.name == "audit_logs_2020_10-2.ndjson.gz"
    await tell(database, transactions)
    assert await failures(transactions) == []


async def test_ranges_that_touch_archives_are_walked(
    transactions: Transactions, retention: RetentionSettings
) -> None:
    await deliver(transactions, *(event(time=t) for t in (OLD, OLD, RECENT, RECENT, OLD)))
    await archive_due(retention, NOW)
    for first, last, rows in ((1, None, 2), (3, 4, 2), (3, None, 2), (2, 3, 0), (4, 4, 1)):
        async with transactions.system() as session:
            report = await verify_chain(session, 7, Evidence(), first=first, last=last)
        expected = first != 2  # A range cannot begin in the middle of what is archived.
        assert (report.valid, report.rows) == (expected, rows if expected else 0)


async def test_a_month_that_was_tampered_with_stays_as_evidence(
    database: Database, transactions: Transactions, retention: RetentionSettings
) -> None:
    await deliver(transactions, event(time=OLD))
    async with database.admin() as admin:
        await admin.execute("SET session_replication_role = replica")
        await admin.execute("UPDATE audit_logs SET action = 'X'")
    with pytest.raises(RowAltered, match="position 1"):
        await archive_due(retention, NOW)
    assert len(await rows_of(database)) == 1
    assert await database.rows("SELECT * FROM archives") == []


async def test_an_archive_that_was_not_made_explains_no_gap(
    database: Database, transactions: Transactions, retention: RetentionSettings
) -> None:
    await deliver(transactions, event(organization_id=None, time=RECENT))
    await deliver(transactions, *(event(time=RECENT) for _ in range(3)))
    async with database.admin() as admin:
        await admin.execute("SET session_replication_role = replica")
        await admin.execute(
            "INSERT INTO archives (month, file, sha256, rows, archived_at)"
            " VALUES ('2020-10-01', 'none', '', 1, now())"
        )
        await admin.execute(
            "INSERT INTO archived_ranges SELECT 7, 2, 2, previous_hash, hash,"
            " (SELECT max(id) FROM archives) FROM audit_logs"
            " WHERE organization_id = 7 AND position = 2"
        )
        await admin.execute("DELETE FROM audit_logs WHERE organization_id = 7 AND position = 2")
    [failure] = await failures(transactions)
    assert failure.kind == "removed"
    assert "archive" in failure.detail


async def test_the_service_can_take_nothing_away(
    transactions: Transactions, retention: RetentionSettings, database: Database
) -> None:
    await deliver(transactions, event(time=OLD))
    as_service = RetentionSettings(owner_database_url=database.url, archive=retention.archive)
    with pytest.raises(Exception, match=r"permission denied|must be owner"):
        await archive_due(as_service, NOW)
    assert len(await rows_of(database)) == 1


async def test_two_runs_at_once_archive_each_month_once(
    database: Database, transactions: Transactions, retention: RetentionSettings
) -> None:
    await deliver(transactions, *(event(time=time) for time in (OLDER, OLD)))
    runs = await asyncio.gather(*(archive_due(retention, NOW) for _ in range(3)))
    assert sorted(len(files) for files in runs) == [0, 0, 2]
    archives = await database.rows("SELECT month FROM archives")
    assert len(archives) == 2
