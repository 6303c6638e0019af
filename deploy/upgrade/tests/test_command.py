"""The command from the outside: every step, its exit codes and its documents."""

import asyncio
import hashlib
import json
import os
import shlex
import stat
from pathlib import Path

import pytest

from deploy.local.system import CHECKOUT
from deploy.proof.rehearsal.databases import (
    DATA,
    READER,
    READERS_GRANTS,
    VersionOne,
    VersionTwo,
    administering,
    copy_template,
    drop,
    make_reader,
)
from deploy.upgrade.tests import commands
from deploy.upgrade.tests.commands import carnet_upgrade, start
from shared.provisioning import in_database

pytestmark = pytest.mark.anyio


async def test_everything_at_once_into_the_same_database(v2: VersionTwo, tmp_path: Path) -> None:
    """Version 1 lies in `public` of the database whose other schemas are version 2's."""
    both = VersionOne(v2.admin_url, v2.name)
    async with administering(v2.admin_url) as connection:
        await make_reader(connection)
    await both.execute(
        *((DATA / file).read_text() for file in ("schema.sql", "sample.sql")),
        *READERS_GRANTS,
        f'GRANT CONNECT ON DATABASE "{v2.name}" TO {READER}',
    )
    dump, changed = tmp_path / "v1.dump", tmp_path / "changed.jsonl"
    ended = await carnet_upgrade(
        v2.environment, "run", "--source", both.reader, "--json",
        "--output", str(dump), "--report", str(changed),
    )  # fmt: skip
    assert ended.code == 0, ended.said
    document = ended.document
    assert list(document) == ["preflight", "backup", "structure", "data", "verify"]
    assert document["preflight"]["rows"]["users"] == 8
    assert document["backup"]["sha256"] == hashlib.sha256(dump.read_bytes()).hexdigest()
    assert document["structure"]["vouchers"] != "none"
    assert document["data"]["rows"]["voucher_codes"] == 13
    assert document["verify"]["passed"]
    lines = [json.loads(line) for line in changed.read_text().splitlines()]
    assert lines[0]["changed"] == document["data"]["changed"]
    assert {"table": "vouchers", "id": 5, "rule": "without_client"}.items() <= max(
        lines[1:], key=lambda line: line["rule"] == "without_client"
    ).items()
    assert stat.S_IMODE(changed.stat().st_mode) == 0o600
    assert await both.rows("SELECT count(*) AS n FROM public.users") == [{"n": 8}]


async def test_each_step_by_itself(v1: VersionOne, v2: VersionTwo, tmp_path: Path) -> None:
    steps = {
        "preflight": "The preflight found no problem",
        "structure": "vouchers",
        "data": "address equal to an older user's except for case",
        "verify": "All checks passed",
    }
    for step, expected in steps.items():
        source = () if step == "structure" else ("--source", v1.reader)
        ended = await carnet_upgrade(v2.environment, step, *source)
        assert ended.code == 0, ended.said
        assert expected in ended.out
    ended = await carnet_upgrade(v2.environment, "rollback")
    assert ended.code == 0
    assert "8 users" in ended.out
    ended = await carnet_upgrade(v2.environment, "verify", "--source", v1.reader)
    assert ended.code == 1
    assert "No data was upgraded" in ended.said


async def test_a_failed_check_is_exit_code_1(v1: VersionOne, v2: VersionTwo) -> None:
    await carnet_upgrade(v2.environment, "data", "--source", v1.reader)
    await v2.execute("UPDATE identity.users SET name = 'Somebody' WHERE id = 7")
    ended = await carnet_upgrade(v2.environment, "verify", "--source", v1.reader)
    assert ended.code == 1
    assert "✗ rows of users: 8 of 8, differing ids: 7" in ended.out


async def test_ids_that_version_2_uses_are_in_the_way(
    v1: VersionOne, v2: VersionTwo, admin_url: str, template: str
) -> None:
    """What a first start creates. The message names the remedy, and the remedy works."""
    await v2.execute(
        "INSERT INTO identity.users (email, name, password_hash, role, is_organization_owner,"
        " is_active, approved_at, created_at, updated_at, version)"
        " VALUES ('admin@example.com', 'A', 'h', 'admin', false, true, now(), now(), now(), 1)"
    )
    ended = await carnet_upgrade(v2.environment, "preflight", "--source", v1.reader, "--json")
    assert ended.code == 1
    assert "its own users with ids of version 1" in ended.document["problems"][0]
    ended = await carnet_upgrade(v2.environment, "data", "--source", v1.reader)
    assert ended.code == 1
    steps = ["Stop version 2", "export CARNET_DATA=", "carnet upgrade run", "Start version 2"]
    assert sorted(steps, key=ended.said.index) == steps
    assert await v2.value("SELECT count(*) FROM vouchers.vouchers") == 0
    assert not await v2.value("SELECT count(*) FROM organizations.upgrade_plan")

    fresh = await copy_template(admin_url, template)
    try:
        ended = await carnet_upgrade(fresh.environment, "data", "--source", v1.reader)
        assert ended.code == 0, ended.said
    finally:
        await drop(admin_url, fresh.name)


async def test_an_address_that_version_2_uses_is_in_the_way(v1: VersionOne, v2: VersionTwo) -> None:
    await v2.execute(
        "INSERT INTO identity.users (id, email, name, password_hash, role, is_organization_owner,"
        " is_active, approved_at, created_at, updated_at, version) VALUES"
        " (99, 'ANNA@example.org', 'A', 'h', 'admin', false, true, now(), now(), now(), 1)"
    )
    ended = await carnet_upgrade(v2.environment, "data", "--source", v1.reader)
    assert ended.code == 1
    assert "User 99 of version 2 has an e-mail address" in ended.said


async def test_preflight_reports_what_will_change(v1: VersionOne, v2: VersionTwo) -> None:
    ended = await carnet_upgrade(v2.environment, "preflight", "--source", v1.reader, "--json")
    assert ended.document["changes"] == {
        "admins who become owners": 1,
        "users whose address is another's but for case": 1,
        "users with nulls that get a value": 1,
        "vouchers without a client, which are cancelled": 1,
        "vouchers without a class": 1,
        "vouchers with nulls that get a value": 1,
        "codes without a voucher": 1,
        "codes with nulls that get a value": 1,
    }
    found = {(g["table_name"], g["rule"]): g["ids"] for g in ended.document["found"]}
    assert found["users", "email_set_aside"] == [9]
    assert found["vouchers", "without_client"] == [5]
    assert ended.document["system_admin"] == "root@example.org"
    assert not await v2.value("SELECT to_regclass('vouchers.upgrade_plan') IS NOT NULL")


async def test_a_backup_is_private_whole_and_never_overwritten(
    v1: VersionOne, tmp_path: Path
) -> None:
    file = tmp_path / "v1.dump"
    arguments = ("backup", "--source", v1.reader, "--output", str(file))
    ended = await carnet_upgrade({}, *arguments)
    assert ended.code == 0, ended.said
    assert hashlib.sha256(file.read_bytes()).hexdigest() in ended.out
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    ended = await carnet_upgrade({}, *arguments)
    assert ended.code == 1
    assert "exists already" in ended.said


def _names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def test_of_two_backups_into_one_file_one_is_kept(v1: VersionOne, tmp_path: Path) -> None:
    file = tmp_path / "v1.dump"
    arguments = ("backup", "--source", v1.reader, "--output", str(file), "--json")
    both = await asyncio.gather(*(carnet_upgrade({}, *arguments) for _ in range(2)))
    won, lost = sorted(both, key=lambda ended: ended.code or 0)
    assert (won.code, lost.code) == (0, 1)
    assert won.document["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert "exists already" in lost.said
    assert _names_in(tmp_path) == [file.name]


async def test_a_failed_backup_leaves_nothing(v1: VersionOne, tmp_path: Path) -> None:
    await v1.execute("CREATE TABLE unreadable (id integer)")
    output = ("--output", str(tmp_path / "v1.dump"))
    ended = await carnet_upgrade({}, "backup", "--source", v1.reader, *output)
    assert ended.code == 1
    assert "pg_dump failed" in ended.said
    assert _names_in(tmp_path) == []


async def test_a_backup_that_finds_no_room_leaves_nothing(v1: VersionOne, tmp_path: Path) -> None:
    """Files may grow to two kibibytes: writing more fails as it does on a full disk."""
    program = (*commands.COMMAND, "backup", "--source", v1.reader)
    limited = shlex.join((*program, "--output", str(tmp_path / "v1.dump")))
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", f"ulimit -f 2; exec {limited}",
        cwd=CHECKOUT, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    _, said = await process.communicate()
    assert process.returncode == 1
    assert "pg_dump failed" in said.decode()
    assert "must have free space" in said.decode()
    assert _names_in(tmp_path) == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("nonsense", "not the address of a database"),
        ("postgresql://nobody:wrong@127.0.0.1:1/x", "Cannot sign in"),
    ],
)
async def test_a_wrong_source_is_reported_clearly(source: str, expected: str) -> None:
    ended = await carnet_upgrade({}, "backup", "--source", source)
    assert ended.code == 1
    assert expected in ended.said
    assert "Traceback" not in ended.said


async def test_a_database_that_is_not_version_1(admin_url: str, v1: VersionOne) -> None:
    ended = await carnet_upgrade({}, "preflight", "--source", in_database(admin_url, "postgres"))
    assert ended.code == 1
    assert "not version 1's database" in ended.said
    await v1.execute("ALTER TABLE vouchers DROP COLUMN used_sessions")
    ended = await carnet_upgrade({}, "preflight", "--source", v1.reader)
    assert "public.vouchers lacks used_sessions" in ended.said


async def test_a_source_that_may_not_be_read(v1: VersionOne) -> None:
    await v1.execute(f"REVOKE SELECT ON sessions FROM {READER}")
    ended = await carnet_upgrade({}, "preflight", "--source", v1.reader)
    assert ended.code == 1
    assert "may not read public.sessions" in ended.said


async def test_half_of_the_addresses_is_not_enough(v1: VersionOne, v2: VersionTwo) -> None:
    environment = {n: v for n, v in v2.environment.items() if n != "AUDIT_OWNER_DATABASE_URL"}
    ended = await carnet_upgrade(environment, "data", "--source", v1.reader)
    assert ended.code == 1
    assert "AUDIT_OWNER_DATABASE_URL is not set" in ended.said


async def test_memory_does_not_grow_with_the_rows(empty_v1: VersionOne, v2: VersionTwo) -> None:
    """Two hundred megabytes of notes in one chunk pass through a process that stays small."""
    await empty_v1.execute(
        "INSERT INTO sessions (session_date, notes)"
        " SELECT now(), repeat(md5(n::text), 32768) FROM generate_series(1, 200) n"
    )
    process = await start(v2.environment, "data", "--source", empty_v1.reader)
    ending = asyncio.create_task(process.communicate())
    peak = 0
    while not ending.done():
        peak = max(peak, _peak_of(process.pid))
        await asyncio.sleep(0.05)
    assert process.returncode == 0
    assert await v2.value("SELECT sum(length(notes)) FROM vouchers.sessions") == 200 * 2**20
    assert 0 < peak < 220 * 2**10, f"{peak} KiB"


def _peak_of(pid: int) -> int:
    """Return the most memory that a process has had, in KiB, or 0 when it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)
