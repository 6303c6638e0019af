"""A payment that is read is the same payment that a change returns, for every role.

Reads decide in SQL what a viewer sees (`PaymentViewer`), changes in Python (`payment_read`).
"""

import json
from typing import Any

import pytest
from pydantic import TypeAdapter

from services.payments import queries
from services.payments.endpoints.views import payment_read
from services.payments.models import Status
from services.payments.schemas import PaymentRead
from services.payments.service.payments import view_of, viewer_of
from services.payments.tests.signals import ADMIN, CLIENT, ORGANIZATION, OTHER_ORGANIZATION
from shared.actors import OWNER, Actor
from shared.money import without_marks
from shared.reads import Reader
from shared.tenancy import EVERYTHING
from shared.testing import Database
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio

STRANGER = 71
EMPLOYEE = 72
ADAPTER = TypeAdapter(PaymentRead)


def _staff(
    *permissions: str, user_id: int = EMPLOYEE, organization_id: int = ORGANIZATION
) -> Actor:
    return Actor(user_id, "staff", organization_id, frozenset(permissions))


ACTORS = {
    "payer": Actor(CLIENT, "client"),
    "payer of the organization": Actor(CLIENT, "client", ORGANIZATION),
    "another client": Actor(STRANGER, "client", ORGANIZATION),
    "administrator": ADMIN,
    "administrator who pays": Actor(CLIENT, ADMIN.role),
    "owner": Actor(EMPLOYEE, OWNER, ORGANIZATION),
    "owner who pays": Actor(CLIENT, OWNER, ORGANIZATION),
    "owner of another organization": Actor(EMPLOYEE, OWNER, OTHER_ORGANIZATION),
    "owner of another organization who pays": Actor(CLIENT, OWNER, OTHER_ORGANIZATION),
    "owner without an organization": Actor(EMPLOYEE, OWNER),
    "therapist": Actor(EMPLOYEE, "therapist", ORGANIZATION),
    "staff": _staff(),
    "staff with another permission": _staff("manage_vouchers"),
    "staff who view": _staff("view_payments"),
    "staff who manage": _staff("manage_payments"),
    "staff with all permissions": _staff("all"),
    "staff who view and pay": _staff("view_payments", user_id=CLIENT),
    "staff of another organization": _staff("all", organization_id=OTHER_ORGANIZATION),
}

NEXT_ACTION = json.dumps({"type": "redirect", "redirect_url": "https://x", "client_secret": "s"})
NOTE = json.dumps({"note": "In the safe."})
ROWS: tuple[dict[str, Any], ...] = (
    {"status": Status.PENDING},
    {"status": Status.SUCCEEDED, "gateway_response": NOTE},
    {"status": Status.SUCCEEDED, "gateway_response": json.dumps({"note": None})},
    {"status": Status.SUCCEEDED, "gateway_response": NOTE, "payment_gateway": "stripe"},
    {"status": Status.QUARANTINED, "quarantine_reason": "Too much.", "payment_gateway": "stripe"},
    {"status": Status.REQUIRES_ACTION, "next_action": NEXT_ACTION},
    {"status": Status.REQUIRES_ACTION, "next_action": NEXT_ACTION, "voided": True},
    {"status": Status.REQUIRES_ACTION},
    {"status": Status.SUCCEEDED, "next_action": NEXT_ACTION},
    {"status": Status.FAILED, "failure_code": "declined", "failure_message": 'No "money".'},
    {"status": Status.FAILED, "failure_code": "declined"},
)
_INSERT = (
    "INSERT INTO payment_transactions (organization_id, voucher_id, client_id, amount, currency,"
    " payment_method, payment_gateway, status, captured_amount, refunded_amount, description,"
    " buyer, seller, checked_at, created_at, updated_at, version, gateway_response, next_action,"
    " quarantine_reason, failure_code, failure_message, void_requested_at)"
    " VALUES ($1, $2, $3, 399.9, 'USD', 'cash', $4, $5, 0, 0, 'Ten sessions', '{}', '{}', now(),"
    " now(), now(), 1, CAST($6::text AS jsonb), CAST($7::text AS jsonb), $8, $9, $10,"
    " CASE WHEN $11 THEN now() END) RETURNING id"
)


@pytest.fixture
async def payment_ids(database: Database) -> list[int]:
    """The ids of payments of which viewers see different parts."""
    async with database.admin() as connection:
        return [
            await connection.fetchval(
                _INSERT,
                ORGANIZATION,
                number,
                CLIENT,
                row.get("payment_gateway", "manual"),
                row["status"],
                row.get("gateway_response"),
                row.get("next_action"),
                row.get("quarantine_reason"),
                row.get("failure_code"),
                row.get("failure_message"),
                row.get("voided", False),
            )
            for number, row in enumerate(ROWS, start=1)
        ]


@pytest.mark.parametrize("role", ACTORS)
async def test_reads_show_what_changes_return(
    role: str, payment_ids: list[int], transactions: Transactions
) -> None:
    actor = ACTORS[role]
    reader = Reader(transactions.engine, EVERYTHING)
    for payment_id in payment_ids:
        async with transactions.system() as session:
            row = await queries.get_payment_with_number(session, payment_id)
            expected = without_marks(ADAPTER.dump_json(payment_read(view_of(actor, row))))
        document = await queries.find_document(reader, viewer_of(actor), payment_id)
        assert document is not None
        assert document.body == expected


async def test_the_payments_differ_by_viewer(
    payment_ids: list[int], transactions: Transactions
) -> None:
    reader = Reader(transactions.engine, EVERYTHING)
    texts = {}
    for role in ("payer", "owner", "another client"):
        documents = [
            await queries.find_document(reader, viewer_of(ACTORS[role]), payment_id)
            for payment_id in payment_ids
        ]
        texts[role] = b"".join(document.body for document in documents if document)
    secrets = (b"client_secret", b"In the safe.", b"Too much.")
    assert [secret in texts["payer"] for secret in secrets] == [True, False, False]
    assert [secret in texts["owner"] for secret in secrets] == [False, True, True]
    assert not any(secret in texts["another client"] for secret in secrets)
