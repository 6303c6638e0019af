"""Checks of the money: the card gateway's records, our payments, invoices and vouchers."""

from collections import Counter
from decimal import Decimal
from typing import Any

from deploy.proof.chaos.checks import Evidence, StateCheck, Violations, query

_CENT = Decimal("0.01")


async def _list_all(evidence: Evidence, path: str, account: str | None) -> list[dict[str, Any]]:
    """Return all objects of a list of the card gateway, None for the installation's account."""
    objects: list[dict[str, Any]] = []
    after: dict[str, str] = {}
    headers = {"Stripe-Account": account} if account else {}
    while True:
        answer = await evidence.platform.bank.get(
            path, params={"limit": 100, **after}, headers=headers
        )
        answer.raise_for_status()
        page = answer.json()
        objects += page["data"]
        if not page["has_more"]:
            return objects
        after = {"starting_after": page["data"][-1]["id"]}


async def _accounts(evidence: Evidence) -> dict[int, str]:
    """Return the account of each organization that sold: it was connected before the faults."""
    rows = await evidence.rows(
        "SELECT organization_id, gateway_account FROM payments.payment_accounts"
    )
    return {row["organization_id"]: row["gateway_account"] for row in rows}


async def find_captures(evidence: Evidence) -> Violations:
    """Compare what each account captured with our payments of its organization."""
    theirs = {
        f"{account}/{intent['id']}": intent["amount"] * _CENT
        for account in (await _accounts(evidence)).values()
        for intent in await _list_all(evidence, "/v1/payment_intents", account)
        if intent["status"] == "succeeded"
    }
    return _differences(theirs, await _books(evidence, "captured_amount"))


async def find_refunds(evidence: Evidence) -> Violations:
    """Compare what each account refunded with our payments of its organization."""
    theirs: Counter[str] = Counter()
    for account in (await _accounts(evidence)).values():
        for refund in await _list_all(evidence, "/v1/refunds", account):
            if refund["status"] == "succeeded":
                theirs[f"{account}/{refund['payment_intent']}"] += refund["amount"]
    amounts = {key: cents * _CENT for key, cents in theirs.items()}
    return _differences(amounts, await _books(evidence, "refunded_amount"))


async def _books(evidence: Evidence, column: str) -> dict[str, Decimal]:
    """Return the amounts of our card payments, by the account of the organization that sold."""
    account_of = await _accounts(evidence)
    rows = await evidence.rows(
        f"SELECT organization_id, gateway_transaction_id AS id, {column} AS amount"  # noqa: S608
        f" FROM payments.payment_transactions WHERE payment_gateway = 'stripe' AND {column} > 0"
    )
    return {f"{account_of.get(row['organization_id'])}/{row['id']}": row["amount"] for row in rows}


async def find_wrong_accounts(evidence: Evidence) -> Violations:
    """Return what is on the installation's account, and payments that name another account."""
    of_installation = [
        f"{thing['id']} is on the installation's own account"
        for path in ("/v1/payment_intents", "/v1/refunds")
        for thing in await _list_all(evidence, path, None)
    ]
    account_of = await _accounts(evidence)
    rows = await evidence.rows(
        "SELECT id, organization_id, gateway_account FROM payments.payment_transactions"
        " WHERE payment_gateway = 'stripe' AND gateway_transaction_id IS NOT NULL"
    )
    return of_installation + [
        f"payment {row['id']} is on {row['gateway_account']}"
        for row in rows
        if row["gateway_account"] != account_of.get(row["organization_id"])
    ]


def _differences(theirs: dict[str, Decimal], ours: dict[str, Decimal]) -> list[str]:
    ids = theirs.keys() | ours.keys()
    return [
        f"{i}: {theirs.get(i)} at the card gateway, {ours.get(i)} in payments"
        for i in sorted(ids)
        if theirs.get(i) != ours.get(i)
    ]


_UNPAID_BUT_ACTIVE = """
SELECT v.id, v.status, p.status AS payment FROM vouchers.vouchers v
LEFT JOIN payments.payment_transactions p
    ON p.voucher_id = v.id AND p.captured_amount = v.payment_amount
WHERE (v.status IN ('active', 'completed') OR v.payment_status = 'paid') AND p.id IS NULL
"""
# Finished vouchers are excluded: those whose sessions are all used or refunded, even if a used
# session is reversed later; those whose money the bank took back; and cancelled ones whose money
# staff must repay.
_PAID_BUT_INACTIVE = """
SELECT v.id, v.status, v.payment_status FROM payments.payment_transactions p
LEFT JOIN vouchers.vouchers v ON v.id = p.voucher_id
WHERE p.captured_amount > p.refunded_amount
AND NOT EXISTS (SELECT FROM payments.disputes d WHERE d.transaction_id = p.id AND d.status = 'lost')
AND NOT (v.status = 'cancelled' AND EXISTS (
    SELECT FROM payments.repayments r WHERE r.transaction_id = p.id AND r.status = 'due'))
AND (v.id IS NULL OR v.payment_status NOT IN ('paid', 'partially_refunded')
     OR (v.status NOT IN ('active', 'completed')
         AND v.used_sessions + v.refunded_sessions + v.transferred_sessions + (
             SELECT count(*) FROM vouchers.redemptions r WHERE r.voucher_id = v.id
             AND r.kind = 'regular' AND r.reversal_of IS NOT NULL) < v.total_sessions))
"""
# Payments by hand are repaid by hand: the money of a cancelled voucher is listed for staff.
_NOT_LISTED = """
SELECT p.id, v.id AS voucher, p.captured_amount - p.refunded_amount AS kept, r.amount AS listed
FROM payments.payment_transactions p
JOIN vouchers.vouchers v ON v.id = p.voucher_id AND v.status = 'cancelled'
LEFT JOIN (
    SELECT transaction_id, sum(amount) AS amount FROM payments.repayments
    WHERE status = 'due' AND reason <> 'refund_returned' GROUP BY transaction_id
) r ON r.transaction_id = p.id
WHERE p.payment_method IN ('cash', 'bank_transfer')
AND p.captured_amount - p.refunded_amount <> coalesce(r.amount, 0)
"""
_PAID_TWICE = """
SELECT voucher_id FROM payments.payment_transactions WHERE captured_amount > 0
GROUP BY voucher_id HAVING count(*) > 1
"""
_ACTIVATED_TWICE = """
SELECT entity_id, action FROM audit.audit_logs
WHERE (entity_type, action) IN (('voucher', 'ACTIVATE'), ('voucher', 'PURCHASE'),
                                ('payment_transaction', 'SUCCEED'))
GROUP BY entity_id, entity_type, action HAVING count(*) > 1
"""
_ACTIVE_WITHOUT_TRACE = """
SELECT v.id FROM vouchers.vouchers v WHERE v.payment_date IS NOT NULL AND NOT EXISTS (
    SELECT FROM audit.audit_logs a
    WHERE (a.entity_type, a.entity_id, a.action) = ('voucher', v.id, 'ACTIVATE'))
"""
_REFUND_UNKNOWN_TO_VOUCHER = """
SELECT v.id, v.payment_status, p.refunded_amount FROM payments.payment_transactions p
JOIN vouchers.vouchers v ON v.id = p.voucher_id
WHERE p.refunded_amount > 0 AND v.payment_status <> CASE
    WHEN p.refunded_amount >= p.captured_amount THEN 'refunded' ELSE 'partially_refunded' END
"""
_QUOTES_THAT_DIFFER = """
SELECT q.id, q.status, q.amount, r.id AS refund, r.status AS made, r.amount AS paid
FROM vouchers.refund_quotes q
FULL JOIN (SELECT * FROM payments.refunds WHERE quote_id IS NOT NULL) r ON r.quote_id = q.id
WHERE q.status IS DISTINCT FROM CASE r.status WHEN 'succeeded' THEN 'refunded'
    WHEN 'failed' THEN 'failed' WHEN 'pending' THEN 'taken' ELSE 'open' END
OR (r.id IS NOT NULL AND (q.amount, q.currency, q.transaction_id)
    IS DISTINCT FROM (r.amount, r.currency, r.transaction_id))
"""
# Sessions are refunded by quotes or by amounts that cover them; a quote refunds their price.
_SESSIONS_AND_MONEY = """
SELECT v.id, v.refunded_sessions, quoted.sessions, quoted.amount, others.sessions AS of_amounts
FROM vouchers.vouchers v
JOIN payments.payment_transactions p ON p.voucher_id = v.id AND p.captured_amount > 0
CROSS JOIN LATERAL (
    SELECT coalesce(sum(q.sessions), 0) AS sessions, coalesce(sum(q.amount), 0) AS amount
    FROM vouchers.refund_quotes q WHERE q.voucher_id = v.id AND q.status = 'refunded'
) quoted
CROSS JOIN LATERAL (
    SELECT coalesce(sum(floor(r.amount * v.total_sessions / p.captured_amount + 0.01)), 0)
        AS sessions
    FROM payments.refunds r
    WHERE r.transaction_id = p.id AND r.quote_id IS NULL AND r.status = 'succeeded'
) others
WHERE v.refunded_sessions < quoted.sessions
OR quoted.amount > round(p.captured_amount * v.refunded_sessions / v.total_sessions, 2)
OR (v.payment_status <> 'refunded' AND v.refunded_sessions > quoted.sessions + others.sessions)
"""
_REFUNDED_CODES = """
SELECT v.id, v.refunded_sessions, count(c.id) AS codes FROM vouchers.vouchers v
LEFT JOIN vouchers.voucher_codes c ON c.voucher_id = v.id AND c.is_refunded
WHERE v.payment_date IS NOT NULL GROUP BY v.id HAVING count(c.id) <> v.refunded_sessions
"""
_DISPUTES_THAT_DIFFER = """
SELECT ours.id, ours.status, theirs.is_open FROM payments.disputes ours
FULL JOIN vouchers.voucher_disputes theirs ON theirs.id = ours.id
WHERE theirs.is_open IS DISTINCT FROM (ours.status = 'open')
"""
_RESTS_WITHOUT_DISPUTE = """
SELECT v.id, v.disputed_at FROM vouchers.vouchers v
WHERE (v.disputed_at IS NOT NULL) <> EXISTS (
    SELECT FROM payments.disputes d JOIN payments.payment_transactions p ON p.id = d.transaction_id
    WHERE p.voucher_id = v.id AND d.status = 'open')
"""
_HELD = """
SELECT p.id, p.disputed_amount, d.amount FROM payments.payment_transactions p
LEFT JOIN (
    SELECT transaction_id, sum(amount) AS amount FROM payments.disputes WHERE status <> 'won'
    GROUP BY transaction_id
) d ON d.transaction_id = p.id
WHERE p.disputed_amount <> least(coalesce(d.amount, 0), p.amount)
"""
_GOES_ON_WITHOUT_MONEY = """
SELECT v.id, v.status, p.refunded_amount FROM vouchers.vouchers v
JOIN payments.payment_transactions p ON p.voucher_id = v.id AND p.captured_amount > 0
WHERE v.status IN ('pending', 'active') AND (p.refunded_amount >= p.captured_amount OR EXISTS (
    SELECT FROM payments.disputes d WHERE d.transaction_id = p.id AND d.status = 'lost'))
"""
# Both are recorded under the payment's lock, and a dispute here is about the whole payment.
_REFUNDED_AND_DISPUTED = """
SELECT r.id AS refund, d.id AS dispute FROM payments.refunds r
JOIN payments.disputes d ON d.transaction_id = r.transaction_id AND r.created_at > d.created_at
WHERE r.status = 'succeeded' AND (d.status <> 'won' OR r.created_at < d.closed_at)
"""
_CODES = """
SELECT v.id, count(c.id) FROM vouchers.vouchers v
LEFT JOIN vouchers.voucher_codes c ON c.voucher_id = v.id GROUP BY v.id
HAVING count(c.id) <> CASE WHEN v.payment_date IS NULL THEN 0
    ELSE v.total_sessions + v.backup_sessions END
"""
_COUNTERS = """
SELECT v.id, v.used_sessions, sum(CASE WHEN r.reversal_of IS NULL THEN 1 ELSE -1 END) AS spent
FROM vouchers.vouchers v JOIN vouchers.redemptions r ON r.voucher_id = v.id AND r.kind = 'regular'
GROUP BY v.id HAVING v.used_sessions <> sum(CASE WHEN r.reversal_of IS NULL THEN 1 ELSE -1 END)
OR v.used_sessions NOT BETWEEN 0 AND v.total_sessions
"""
_GAPS = """
SELECT organization_id, kind, year, count(*), max(sequence) FROM payments.invoices
GROUP BY 1, 2, 3 HAVING count(*) <> max(sequence)
"""
_INVOICES = """
SELECT p.id FROM payments.payment_transactions p
LEFT JOIN payments.invoices i ON i.transaction_id = p.id AND i.kind = 'invoice'
WHERE (p.captured_amount > 0) <> (i.id IS NOT NULL) OR i.total <> p.captured_amount
"""
_CREDIT_NOTES = """
SELECT r.id FROM payments.refunds r LEFT JOIN payments.invoices i ON i.refund_id = r.id
WHERE (r.status = 'succeeded') <> (i.id IS NOT NULL)
"""

CHECKS = [
    StateCheck("money", "captures that differ from the card gateway's", find_captures),
    StateCheck("money", "refunds that differ from the card gateway's", find_refunds),
    StateCheck("money", "payments on another account than the organization's", find_wrong_accounts),
    query("money", "vouchers active without money", _UNPAID_BUT_ACTIVE),
    query("money", "vouchers paid and not active", _PAID_BUT_INACTIVE),
    query("money", "money of cancelled vouchers that is not listed for repayment", _NOT_LISTED),
    query("money", "vouchers paid twice", _PAID_TWICE),
    query("money", "sales, payments or activations recorded twice", _ACTIVATED_TWICE),
    query("money", "activations without an audit row", _ACTIVE_WITHOUT_TRACE),
    query("money", "vouchers whose status does not match their refund", _REFUND_UNKNOWN_TO_VOUCHER),
    query("money", "quotes and their refunds that differ", _QUOTES_THAT_DIFFER),
    query("money", "refunded sessions and money that do not match", _SESSIONS_AND_MONEY),
    query("money", "disputes that differ between payments and vouchers", _DISPUTES_THAT_DIFFER),
    query("money", "vouchers on hold without a dispute, or the reverse", _RESTS_WITHOUT_DISPUTE),
    query("money", "payments whose disputed amount does not match", _HELD),
    query("money", "active vouchers without their money", _GOES_ON_WITHOUT_MONEY),
    query("money", "refunds of disputed payments", _REFUNDED_AND_DISPUTED),
    query("money", "gaps in invoice numbers", _GAPS),
    query("money", "payments without their one invoice", _INVOICES),
    query("money", "refunds without their one credit note", _CREDIT_NOTES),
    query("sessions", "vouchers without exactly their codes", _CODES),
    query("sessions", "refunded codes that do not match refunded sessions", _REFUNDED_CODES),
    query("sessions", "counters that are not the sum of redemptions", _COUNTERS),
]
