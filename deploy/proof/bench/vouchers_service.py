"""The vouchers service alone, with voucher types to sell."""

import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from deploy.proof.bench.environment import BenchDatabase, BenchEnvironment
from deploy.proof.bench.identities import Issuer
from deploy.proof.bench.load import LoadRequest
from shared.broker_access import broker_url

ORGANIZATION, CLIENT, VOUCHER_TYPE, OWNER = 7, 70, 700, 71
# The responses of payments to a purchase: every charge succeeds at once.
CHARGED: Mapping[str, Any] = {
    "/internal/charges": {
        "transaction_id": 1,
        "status": "succeeded",
        "invoice_number": "BENCH-2026-000001",
        "completed_at": "2026-11-25T12:00:00+00:00",
    }
}

_SELLER = """
INSERT INTO organization_copies (id, version, name, slug, address, tax_id, timezone, currency,
    is_active)
VALUES ($1, 1, 'Bench', 'bench', 'Beach Road 1', 'PL5260250274', 'Europe/Warsaw', 'EUR', true)
"""
_BUYER = """
INSERT INTO client_copies (id, version, name, email, role, organization_id, is_active)
VALUES ($1, 1, 'Clara Client', 'clara@example.com', 'client', $2, true)
"""
_TYPE = """
INSERT INTO voucher_types (id, organization_id, name, session_name, description, total_sessions,
    backup_sessions, session_duration_minutes, max_clients_per_session, frequency, price, currency,
    validity_days, booking_rules, is_active, created_at, updated_at, version)
VALUES ($1, $2, 'Ten sessions', 'Individual therapy', 'Ten sessions of an hour.', 10, 2, 60, 1,
    'weekly', 399.99, 'EUR', 180, '{"monday": {"enabled": true, "start_time": "09:00",
    "end_time": "17:00"}}', true, now(), now(), 1)
"""
# The newest vouchers belong to the buying client, all others to other clients.
_VOUCHERS = """
INSERT INTO vouchers (organization_id, client_id, voucher_type_id, voucher_type_version, name,
    session_name, total_sessions, backup_sessions, session_duration_minutes,
    max_clients_per_session, frequency, price, currency, validity_days, booking_rules,
    used_sessions, used_backup_sessions, purchase_date, valid_from, valid_until, status,
    payment_method, payment_status, payment_amount, payment_date, invoice_number, created_at,
    updated_at, version)
SELECT t.organization_id, CASE WHEN n > $1::bigint - 100 THEN $2::bigint ELSE n % 5000 + 1000 END,
    t.id, 1, t.name, t.session_name, t.total_sessions, t.backup_sessions,
    t.session_duration_minutes, t.max_clients_per_session, t.frequency, t.price, t.currency,
    t.validity_days, t.booking_rules, 0, 0, current_date, current_date, current_date + 180,
    'active', 'credit_card', 'paid', t.price, now(), 'BENCH-' || n, now(), now(), 2
FROM voucher_types t, generate_series(1, $1::bigint) n
"""
_CODES = """
INSERT INTO voucher_codes (organization_id, voucher_id, client_id, code, is_backup, is_used,
    created_at)
SELECT organization_id, id, client_id, upper(substr(md5(id::text || ':' || n), 1, 12)), n > 10,
    false, now()
FROM vouchers, generate_series(1, $1::int) n
"""


@dataclass(frozen=True)
class VouchersService:
    """A running vouchers service: its address, process, database, and the issuer of tokens."""

    url: str
    pid: int
    database: BenchDatabase
    issuer: Issuer

    def read_one(self, voucher_id: int) -> LoadRequest:
        """Return the request of a client who reads a voucher and its codes."""
        headers = self.issuer.bearer(CLIENT, "client", ORGANIZATION)
        return LoadRequest(f"{self.url}/api/vouchers/{voucher_id}", headers=headers)

    def list_vouchers(self, query: str = "limit=50") -> LoadRequest:
        """Return the request of an owner who lists the organization's vouchers."""
        headers = self.issuer.bearer(OWNER, "organization_owner", ORGANIZATION)
        path = f"/api/organizations/{ORGANIZATION}/vouchers"
        return LoadRequest(f"{self.url}{path}?{query}", headers=headers)

    def purchase(self) -> LoadRequest:
        """Return the request of a client who buys with a card."""
        headers = self.issuer.bearer(CLIENT, "client", ORGANIZATION)
        body = (
            f'{{"voucher_type_id": {VOUCHER_TYPE}, "payment_method": "credit_card",'
            ' "payment_token": "pm_card_visa"}'
        )
        return LoadRequest(
            f"{self.url}/api/vouchers/purchase",
            "POST",
            {**headers, "Content-Type": "application/json"},
            body,
        )


async def fill_database(database: BenchDatabase, vouchers: int, *, codes: int = 12) -> None:
    """Fill an empty database with one organization and its sold vouchers."""
    async with database.admin() as admin:
        if await admin.fetchval("SELECT 1 FROM vouchers LIMIT 1"):
            return
        # In this role the server does not check foreign keys, which these rows satisfy.
        await admin.execute("SET session_replication_role = replica")
        async with admin.transaction():
            await admin.execute(_SELLER, ORGANIZATION)
            await admin.execute(_BUYER, CLIENT, ORGANIZATION)
            await admin.execute(_TYPE, VOUCHER_TYPE, ORGANIZATION)
            await admin.execute(_VOUCHERS, vouchers, CLIENT)
            await admin.execute(_CODES, codes)
        await admin.execute("VACUUM (ANALYZE, FREEZE)")
        await admin.execute("CHECKPOINT")


@asynccontextmanager
async def running_service(
    environment: BenchEnvironment, database: BenchDatabase, others: str, *, name: str = "vouchers"
) -> AsyncIterator[VouchersService]:
    """Run the service on the tested core; `others` is the address of the services it calls."""
    issuer, port = Issuer(), environment.ports.choose(name)
    servers = await environment.servers()
    values = {
        **{f"{service}_URL": others for service in ("PAYMENTS", "ORGANIZATIONS", "IDENTITY")},
        "DATABASE_URL": database.url.get_secret_value(),
        "RABBITMQ_URL": broker_url(f"{servers.rabbitmq_url}/", "vouchers"),
        "PORT": str(port),
    }
    variables = {f"VOUCHERS_{variable}": value for variable, value in values.items()}
    url = f"http://127.0.0.1:{port}"
    async with environment.process(
        name,
        (sys.executable, "-m", "services.vouchers.app"),
        {**issuer.settings("VOUCHERS"), **variables},
        ready=f"{url}/health/ready",
    ) as process:
        yield VouchersService(url, process.pid, database, issuer)
