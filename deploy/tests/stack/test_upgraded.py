"""Users of version 1 use version 2: their passwords, their vouchers, their old codes."""

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.api_client import Person
from deploy.local.errors import StartError
from deploy.local.preparation import Preparation
from deploy.local.settings import StackSettings
from deploy.local.stack import Stack, running_stack
from deploy.local.system import CHECKOUT
from deploy.proof.rehearsal.databases import drop, make_version_one
from deploy.tests.stack.conftest import IN_ONE_PROCESS, Rows
from deploy.upgrade.run.maintenance_notice import UPGRADING
from deploy.upgrade.tests.commands import carnet_upgrade
from shared.testing import until

pytestmark = [pytest.mark.anyio, IN_ONE_PROCESS]

FOLDER = CHECKOUT / ".carnet" / "test-upgraded"
PASSWORD = "correct horse battery"


@pytest.fixture(scope="module")
async def upgraded_stack() -> AsyncIterator[Stack]:
    """A fresh data folder, upgraded by the command alone, then started as `make run` does."""
    await asyncio.to_thread(shutil.rmtree, FOLDER, ignore_errors=True)
    admin_url = os.environ["CARNET_TEST_DATABASE_URL"]
    v1 = await make_version_one(admin_url, "schema.sql", "sample.sql")
    try:
        ended = await carnet_upgrade(
            {"CARNET_DATA": str(FOLDER)}, "run", "--source", v1.reader,
            "--output", str(FOLDER.with_name("test-upgraded.dump")),
        )  # fmt: skip
        assert ended.code == 0, ended.out + ended.said
    finally:
        await drop(admin_url, v1.name)
        FOLDER.with_name("test-upgraded.dump").unlink(missing_ok=True)
    async with running_stack(StackSettings(data=FOLDER, port=0)) as running:
        yield running


@pytest.fixture
async def upgraded_api(upgraded_stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=upgraded_stack.address, timeout=30) as client:
        yield client


@pytest.fixture
def upgraded_rows(upgraded_stack: Stack) -> Rows:
    return Rows(upgraded_stack.system.database_url)


async def signed_in(api: httpx.AsyncClient, email: str) -> Person:
    person = Person(api, email, email, PASSWORD)
    await person.sign_in()
    return person


async def organization_of(person: Person) -> Any:
    return (await person.call("GET", "/api/auth/me"))["organization_id"]


async def test_the_old_password_opens_the_new_door(
    upgraded_api: httpx.AsyncClient, upgraded_rows: Rows
) -> None:
    for _ in range(2):  # the second time against the hash that the first one made
        maria = await signed_in(upgraded_api, "maria@example.com")
        assert (await maria.call("GET", "/api/auth/me"))["id"] == 7
    [row] = await upgraded_rows("SELECT password_hash FROM identity.users WHERE id = 7")
    assert row["password_hash"].startswith("$argon2id$")


async def test_of_two_equal_addresses_the_older_signs_in(upgraded_api: httpx.AsyncClient) -> None:
    piotr = await signed_in(upgraded_api, "piotr@example.com")
    assert (await piotr.call("GET", "/api/auth/me"))["id"] == 8


async def test_who_was_switched_off_stays_out(upgraded_api: httpx.AsyncClient) -> None:
    body = {"email": "gone@example.com", "password": PASSWORD}
    answer = await upgraded_api.post("/api/auth/login", json=body)
    assert answer.status_code in (401, 403)


async def test_vouchers_under_their_old_ids_with_their_old_codes(
    upgraded_api: httpx.AsyncClient,
) -> None:
    maria = await signed_in(upgraded_api, "maria@example.com")
    mine = await maria.call("GET", "/api/vouchers/my")
    assert {voucher["id"]: voucher["status"] for voucher in mine} == {1: "active", 2: "expired"}
    voucher = await maria.call("GET", "/api/vouchers/1")
    assert voucher["total_sessions"] == 10
    regular = [f"VK-2024-001-{number:02}" for number in range(1, 11)]
    codes = {code["code"]: code["is_backup"] for code in voucher["codes"]}
    spare = {"VK-2024-001-S1": True, "VK-2024-001-S2": True}
    assert codes == {**dict.fromkeys(regular, False), **spare}


async def test_a_therapist_redeems_an_old_code(upgraded_api: httpx.AsyncClient) -> None:
    anna = await signed_in(upgraded_api, "anna@example.org")
    path = "/api/vouchers/1/redemptions"
    spent = await anna.call("POST", path, {"code": "VK-2024-001-04"}, expect=201)
    assert spent["regular_sessions_left"] == 6
    refused = await anna.call("POST", path, {"code": "VK-2024-001-01"}, expect=409)
    assert refused["code"] == "code_already_used"
    maria = await signed_in(upgraded_api, "maria@example.com")
    ledger = await maria.call("GET", path)
    assert sorted(row["code"] for row in ledger) == [f"VK-2024-001-0{n}" for n in range(1, 5)]


async def test_the_second_admin_owns_the_organization(upgraded_api: httpx.AsyncClient) -> None:
    owner = await signed_in(upgraded_api, "office@example.org")
    here = f"/api/organizations/{await organization_of(owner)}"
    assert len(await owner.call("GET", f"{here}/users")) >= 8
    vouchers = await owner.call("GET", f"{here}/vouchers")
    assert sorted(voucher["id"] for voucher in vouchers) == [1, 2, 3, 4, 5, 6]
    [migration] = await owner.call("GET", f"{here}/audit-logs", params={"action": "migration"})
    assert migration["new_values"]["rows"]["vouchers"] == 6


async def test_the_first_admin_stays_and_ids_continue(upgraded_api: httpx.AsyncClient) -> None:
    root = await signed_in(upgraded_api, "root@example.org")
    new = {
        "email": "new@example.org",
        "name": "New Client",
        "password": "another horse battery",
        "role": "client",
        "organization_id": await organization_of(root),
    }
    made = await root.call("POST", "/api/admin/users", new, expect=201)
    assert made["id"] > 12


async def test_the_default_types_are_on_sale(upgraded_api: httpx.AsyncClient) -> None:
    maria = await signed_in(upgraded_api, "maria@example.com")
    types = await maria.call("GET", "/api/voucher-types/available")
    assert len(types) == 3


async def test_the_first_start_makes_no_second_administrator(upgraded_rows: Rows) -> None:
    """Version 1's administrator is active, so the password of the settings is not valid."""
    admins = await upgraded_rows("SELECT email FROM identity.users WHERE role = 'admin'")
    assert admins == [{"email": "root@example.org"}]


async def test_every_chain_of_the_trail_is_whole(
    upgraded_api: httpx.AsyncClient, upgraded_stack: Stack, upgraded_rows: Rows
) -> None:
    """The organization's, with the upgrade's own row, and the chain of those without one."""
    root = await signed_in(upgraded_api, "root@example.org")
    where = await organization_of(root)
    another = {
        "email": "second-root@example.org",
        "name": "Second",
        "password": "another horse battery",
        "role": "admin",
    }
    made = await root.call("POST", "/api/admin/users", another, expect=201)

    async def audited() -> bool:
        return bool(
            await upgraded_rows(
                "SELECT 1 FROM audit.audit_logs WHERE organization_id IS NULL"
                " AND entity_type = 'user' AND entity_id = $1",
                made["id"],
            )
        )

    await until(audited)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "from deploy.cli import app; app()", "audit", "verify",
        cwd=CHECKOUT, env={**os.environ, "CARNET_DATA": str(FOLDER)},
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    whole = [line for line in out.decode().splitlines() if "rows as they were written" in line]
    assert {line.partition(":")[0] for line in whole} == {str(where), "no organization"}


async def test_the_services_copies_are_there(upgraded_rows: Rows) -> None:
    columns = "id, slug, is_active"
    organizations = await upgraded_rows(f"SELECT {columns} FROM organizations.organizations")
    assert [row["slug"] for row in organizations] == ["default-org"]
    for service in ("identity", "vouchers"):
        found = await upgraded_rows(f"SELECT {columns} FROM {service}.organization_copies")
        assert found == organizations, service
    columns = "id, name, email, role, organization_id, is_active"
    of_people = f"SELECT {columns} FROM {{}} WHERE id <= 12 ORDER BY id"
    people = await upgraded_rows(of_people.format("identity.users"))
    assert len(people) == 8
    assert await upgraded_rows(of_people.format("vouchers.client_copies")) == people


async def test_no_start_in_the_middle_of_an_upgrade(
    upgraded_stack: Stack, upgraded_rows: Rows, tmp_path: Path
) -> None:
    preparation = Preparation(
        tmp_path,
        upgraded_stack.system,
        (upgraded_stack.admin_email, upgraded_stack.admin_password),
        upgraded_stack.supervisor,
        print,
    )
    await upgraded_rows(
        "INSERT INTO vouchers.maintenance (reason, remedy) VALUES ($1, $2)",
        UPGRADING.reason,
        UPGRADING.remedy,
    )
    try:
        with pytest.raises(StartError, match="Finish it: carnet upgrade data"):
            await preparation.run()
    finally:
        await upgraded_rows("DELETE FROM vouchers.maintenance")


async def test_a_rollback_is_refused_by_now(upgraded_api: httpx.AsyncClient) -> None:
    await signed_in(upgraded_api, "maria@example.com")
    ended = await carnet_upgrade({"CARNET_DATA": str(FOLDER)}, "rollback")
    assert ended.code == 1
    assert "Users have worked with version 2 since" in ended.said
