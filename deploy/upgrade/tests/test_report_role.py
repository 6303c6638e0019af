"""The role for reports: reads, and no secret; writes nothing."""

import asyncpg
import pytest

from deploy.proof.rehearsal.databases import Upgraded, execute, rows

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "query",
    [
        "SELECT password_hash FROM users",
        "SELECT notes FROM sessions",
        "SELECT code FROM voucher_codes",
        "SELECT * FROM refresh_tokens",
        "SELECT * FROM signing_keys",
        "SELECT * FROM personal_values",
        "SELECT * FROM vouchers.outbox",
    ],
)
async def test_no_secret_is_shown(sample: Upgraded, query: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await rows(sample.v2.target.report or "", query)


async def test_every_organization_is_seen(sample: Upgraded) -> None:
    [row] = await rows(
        sample.v2.target.report or "",
        "SELECT (SELECT count(*) FROM users) AS users, (SELECT count(*) FROM vouchers) AS vouchers",
    )
    assert (row["users"], row["vouchers"]) == (8, 6)


async def test_nothing_is_written(sample: Upgraded) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await execute(
            sample.v2.target.report or "",
            "SET default_transaction_read_only = off; DELETE FROM users",
        )
