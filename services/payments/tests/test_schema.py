"""The schema: as the models say, closed to strangers, closed between tenants, frozen invoices."""

import asyncpg
import httpx
import pytest

from services.payments.models import Base
from services.payments.tests.signals import CLIENT, ORGANIZATION, OTHER_ORGANIZATION, order
from services.payments.tests.test_charges import charge
from shared.migrations import drift
from shared.outbox_relay import plain_dsn
from shared.testing import Database

pytestmark = pytest.mark.anyio

TABLES = (
    "payment_transactions",
    "invoices",
    "refunds",
    "disputes",
    "payment_accounts",
    "payouts",
    "payout_lines",
    "platform_fees",
    "repayments",
    "saved_cards",
    "invoice_series",
    "seller_changes",
    "webhook_events",
)


async def test_migrations_and_models_agree(database: Database) -> None:
    assert await drift(database.owner_url, Base.metadata) == []


async def test_every_table_of_ours_is_under_forced_row_level_security(database: Database) -> None:
    rows = await database.rows(
        "SELECT relname FROM pg_class WHERE relnamespace = 'payments'::regnamespace"
        " AND relrowsecurity AND relforcerowsecurity"
    )
    assert {row["relname"] for row in rows} == {*TABLES, "outgoing_mails"}


async def test_a_query_without_a_tenant_finds_nothing(
    client: httpx.AsyncClient, vouchers: dict[str, str], database: Database
) -> None:
    await charge(client, vouchers, order())
    await charge(client, vouchers, order(organization_id=OTHER_ORGANIZATION, client_id=80))
    connection = await asyncpg.connect(plain_dsn(database.url))
    try:
        for table in TABLES:
            assert await connection.fetch(f"SELECT * FROM {table}") == []
        for setting, value, expected in (
            ("organization_id", ORGANIZATION, {ORGANIZATION}),
            ("organization_id", 999, set()),
            ("user_id", CLIENT, {ORGANIZATION}),
            ("user_id", 80, {OTHER_ORGANIZATION}),
        ):
            for table in ("payment_transactions", "invoices"):
                async with connection.transaction():
                    await connection.execute(f"SET LOCAL carnet.{setting} = '{value}'")
                    rows = await connection.fetch(f"SELECT organization_id FROM {table}")
                assert {row["organization_id"] for row in rows} == expected
    finally:
        await connection.close()


async def test_the_service_may_not_alter_what_was_issued(
    client: httpx.AsyncClient, vouchers: dict[str, str], database: Database
) -> None:
    await charge(client, vouchers, order())
    connection = await asyncpg.connect(plain_dsn(database.url))
    try:
        for statement in (
            "UPDATE invoices SET total = 1",
            "DELETE FROM invoices",
            "TRUNCATE invoices",
            "DELETE FROM payment_transactions",
            "DELETE FROM refunds",
            "DELETE FROM disputes",
            "DELETE FROM repayments",
            "DELETE FROM payouts",
            "DELETE FROM payout_lines",
            "DROP TABLE refunds",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
    finally:
        await connection.close()


async def test_a_row_cannot_point_at_another_tenants(
    client: httpx.AsyncClient, vouchers: dict[str, str], database: Database
) -> None:
    made = await charge(client, vouchers, order())
    async with database.admin() as admin:
        with pytest.raises(asyncpg.ForeignKeyViolationError):
            await admin.execute(
                "INSERT INTO refunds (organization_id, transaction_id, client_id, amount, currency,"
                " source, status, payment_gateway, created_at, updated_at, version) VALUES"
                " ($1, $2, 1, 1, 'USD', 'staff', 'pending', 'stripe', now(), now(), 1)",
                OTHER_ORGANIZATION,
                made["transaction_id"],
            )
