"""The first administrator."""

import asyncio
from typing import Any

import httpx
import pytest

from services.identity.bootstrap import (
    BootstrapSettings,
    bootstrap,
    read_administrator,
    report,
)
from services.identity.service.administrators import AddressTaken
from shared.testing import Database
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio


def _settings(database: Database, **changes: Any) -> BootstrapSettings:
    known = {
        "database_url": database.url,
        "admin_email": "Admin@example.org",
        "admin_password": "a long admin password",
    }
    return BootstrapSettings(**{**known, **changes})


async def test_the_first_administrator_is_made_once_by_the_system(
    client: httpx.AsyncClient, transactions: Transactions, database: Database
) -> None:
    assert (await bootstrap(transactions, _settings(database))).made
    again = _settings(database, admin_email="admin@EXAMPLE.org", admin_password="another good one")
    assert not (await bootstrap(transactions, again)).made
    [user] = await database.rows("SELECT * FROM users")
    assert (user["role"], user["is_active"], user["approved_by"]) == ("admin", True, None)
    [event] = await database.events()
    assert event["type"] == "identity.user.created.v1"
    assert event["data"]["actor"] == {
        "user_id": None,
        "role": "system",
        "ip_address": None,
        "user_agent": None,
    }
    credentials = {"email": "admin@example.org", "password": "a long admin password"}
    assert (await client.post("/api/auth/login", json=credentials)).status_code == 200


@pytest.mark.parametrize("password", ["tiny", "password12", "x" * 129])
async def test_the_rule_for_passwords_holds_here_too(database: Database, password: str) -> None:
    with pytest.raises(ValueError, match="admin_password") as refused:
        _settings(database, admin_password=password)
    assert password not in str(refused.value)


async def test_another_address_at_a_later_start_makes_no_second_administrator(
    transactions: Transactions, database: Database
) -> None:
    await bootstrap(transactions, _settings(database))
    later = _settings(database, admin_email="other@example.org", admin_password="another pass 7")
    outcome = await bootstrap(transactions, later)
    assert (outcome.made, outcome.password_matches) == (False, False)
    assert outcome.email.lower() == "admin@example.org"
    assert len(await database.rows("SELECT * FROM users")) == 1
    assert len(await database.events()) == 1
    lines = "\n".join(report(outcome, later))
    assert "CARNET_ADMIN_EMAIL) is other@example.org" in lines
    assert "CARNET_ADMIN_PASSWORD) is not" in lines
    assert "nothing was changed" in lines
    assert "another pass 7" not in lines


async def test_only_values_that_are_used_must_keep_the_rules(
    transactions: Transactions, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IDENTITY_DATABASE_URL", database.url.get_secret_value())
    monkeypatch.setenv("IDENTITY_ADMIN_EMAIL", "admin@localhost")
    monkeypatch.setenv("IDENTITY_ADMIN_PASSWORD", "Password123!")
    with pytest.raises(SystemExit, match="CARNET_ADMIN_PASSWORD"):
        await read_administrator(transactions)
    await bootstrap(transactions, _settings(database))
    outcome = await bootstrap(transactions, await read_administrator(transactions))
    assert (outcome.made, outcome.password_matches) == (False, False)


async def test_two_first_starts_at_once_make_one_administrator(
    transactions: Transactions, database: Database
) -> None:
    outcomes = await asyncio.gather(
        *(
            bootstrap(transactions, _settings(database, admin_email=f"admin{n}@example.org"))
            for n in range(4)
        )
    )
    assert [outcome.made for outcome in outcomes].count(True) == 1
    assert len({outcome.email for outcome in outcomes}) == 1
    assert len(await database.rows("SELECT * FROM users")) == 1


async def test_the_address_of_a_user_who_is_no_active_administrator_is_refused(
    transactions: Transactions, database: Database
) -> None:
    await bootstrap(transactions, _settings(database))
    await database.rows("UPDATE users SET is_active = false")
    with pytest.raises(AddressTaken):
        await bootstrap(transactions, _settings(database))
