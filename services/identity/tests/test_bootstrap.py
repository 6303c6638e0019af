"""The first administrator."""

from typing import Any

import httpx
import pytest

from services.identity.bootstrap import BootstrapSettings, bootstrap
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
    assert await bootstrap(transactions, _settings(database))
    again = _settings(database, admin_email="admin@EXAMPLE.org", admin_password="b" * 12)
    assert not await bootstrap(transactions, again)
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
