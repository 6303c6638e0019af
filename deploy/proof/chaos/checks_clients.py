"""Checks that compare clients' responses with the tables, and that find unfinished work."""

from collections.abc import Iterable
from typing import Any

from deploy.proof.chaos.checks import Evidence, StateCheck, Violations, compare, query
from deploy.proof.chaos.client import ClientAnswer

_BY_HAND = "payment_method IN ('cash', 'bank_transfer')"


async def _ids(evidence: Evidence, table: str, condition: str = "true") -> list[int]:
    rows = await evidence.rows(
        f"SELECT id FROM {table} WHERE organization_id = ANY($1::bigint[])"  # noqa: S608
        f" AND {condition}",
        list(evidence.organizations),
    )
    return [row["id"] for row in rows]


def _ids_of(answers: Iterable[ClientAnswer]) -> list[Any]:
    return [answer.body["id"] for answer in answers]


async def _failed_later(evidence: Evidence) -> set[int]:
    """Return the vouchers whose purchase was answered with success before their payment failed.

    The card is declined after the answer, or the card gateway was killed before it confirmed the
    payment: the reconciler ends that one after some minutes, and nothing was charged.
    """
    rows = await evidence.rows(
        "SELECT voucher_id AS id FROM payments.payment_transactions"
        " WHERE status = 'failed' AND failure_code = 'payment_interrupted'"
    )
    purchases = set(_ids_of(evidence.history.successes("purchase")))
    interrupted_ids = {row["id"] for row in rows} & purchases
    return interrupted_ids | set(_ids_of(evidence.history.of("declined later")))


async def find_purchases(evidence: Evidence) -> Violations:
    """Each purchase is a voucher. The client of a declined card does not receive its id."""
    later = await _failed_later(evidence)
    purchases = _ids_of(evidence.history.successes("purchase"))
    not_declined = f"(payment_status <> 'failed' OR {_BY_HAND})"
    vouchers = await _ids(evidence, "vouchers.vouchers", not_declined)
    return compare([id_ for id_ in purchases if id_ not in later], vouchers)


async def find_declines(evidence: Evidence) -> Violations:
    """As many vouchers have failed as clients had a declined card."""
    answers = sum(each.status == 402 for each in evidence.history.of("purchase"))
    answers += len(await _failed_later(evidence))
    condition = f"payment_status = 'failed' AND NOT ({_BY_HAND})"
    vouchers = await _ids(evidence, "vouchers.vouchers", condition)
    difference = abs(answers - len(vouchers))
    return [f"{answers} responses, {len(vouchers)} vouchers"] * difference


async def find_refusals(evidence: Evidence) -> Violations:
    """Purchases are refused only for declined cards, because no user here causes another error."""
    answers = evidence.history.of("purchase")
    return [each.body for each in answers if not each.succeeded and each.status != 402]


async def find_cancellations(evidence: Evidence) -> Violations:
    """Exactly the vouchers by hand whose cancellation succeeded are cancelled."""
    condition = f"status = 'cancelled' AND {_BY_HAND}"
    vouchers = await _ids(evidence, "vouchers.vouchers", condition)
    return compare(_ids_of(evidence.history.successes("cancellation")), vouchers)


async def find_payments_by_hand(evidence: Evidence) -> Violations:
    """Exactly the payments by hand that staff marked as paid have money."""
    payments = await _ids(
        evidence, "payments.payment_transactions", f"captured_amount > 0 AND {_BY_HAND}"
    )
    return compare(_ids_of(evidence.history.successes("mark-paid")), payments)


async def find_paid_and_cancelled(evidence: Evidence) -> Violations:
    """Either the payment by hand or the cancellation is refused, never neither."""
    payments = {each.body["voucher_id"] for each in evidence.history.successes("mark-paid")}
    return sorted(payments & set(_ids_of(evidence.history.successes("cancellation"))))


async def find_redemptions(evidence: Evidence) -> Violations:
    """Each redemption is stored once. A mark and a late cancellation may redeem a session too."""
    history = evidence.history
    marks = [*history.successes("mark"), *history.successes("release")]
    ids = [each.body["redemption_id"] for each in marks if each.body["redemption_id"]]
    rows = await _ids(evidence, "vouchers.redemptions", "reversal_of IS NULL")
    return compare([*_ids_of(history.successes("redemption")), *ids], rows)


async def find_reversals(evidence: Evidence) -> Violations:
    """Each reversal is stored once."""
    rows = await _ids(evidence, "vouchers.redemptions", "reversal_of IS NOT NULL")
    return compare(_ids_of(evidence.history.successes("reversal")), rows)


async def find_refunds(evidence: Evidence) -> Violations:
    """Each refund without a quote is stored once."""
    rows = await _ids(evidence, "payments.refunds", "quote_id IS NULL")
    return compare(_ids_of(evidence.history.successes("refund")), rows)


async def find_refunds_by_quote(evidence: Evidence) -> Violations:
    """Each refund by quote is stored once. One that failed at once has no id in its response."""
    answers = _ids_of(evidence.history.successes("refund-by-quote"))
    refunds = await _ids(evidence, "payments.refunds", "quote_id IS NOT NULL")
    failures = await _ids(
        evidence, "payments.refunds", "quote_id IS NOT NULL AND status = 'failed'"
    )
    refusals = set(failures) - set(answers)
    return compare(answers, [id_ for id_ in refunds if id_ not in refusals])


async def find_quotes(evidence: Evidence) -> Violations:
    """Each quote in a response is stored. A quote that no client received has no effect."""
    quotes = set(_ids_of(evidence.history.successes("quote")))
    return sorted(quotes - set(await _ids(evidence, "vouchers.refund_quotes")))


async def find_disputes(evidence: Evidence) -> Violations:
    """Each dispute of the bank is stored once, with the bank's status."""
    statuses = {each.body["id"]: each.body["status"] for each in evidence.history.of("dispute")}
    statuses |= {each.body["id"]: each.body["status"] for each in evidence.history.of("decision")}
    rows = await evidence.rows(
        "SELECT gateway_dispute_id, status FROM payments.disputes"
        " WHERE organization_id = ANY($1::bigint[])",
        list(evidence.organizations),
    )
    return compare(statuses.items(), [(row["gateway_dispute_id"], row["status"]) for row in rows])


async def find_redeemed_at_rest(evidence: Evidence) -> Violations:
    """No voucher is redeemed between the dispute of its money and the bank's decision."""
    return [each.body for each in evidence.history.successes("redemption at rest")]


async def find_edits(evidence: Evidence) -> Violations:
    """Every edit is one event with the version in the client's response."""
    edits = [(each.body["id"], each.body["version"]) for each in evidence.history.successes("edit")]
    rows = await evidence.rows(
        "SELECT entity_id, entity_version FROM chaos.recorded"
        " WHERE (service, entity_type, action) = ('vouchers', 'voucher_type', 'UPDATE')"
    )
    return compare(edits, [(row["entity_id"], row["entity_version"]) for row in rows])


async def find_renames(evidence: Evidence) -> Violations:
    """Every new name is an event. A retry may return the version after a lost response."""
    renames = {
        (each.body["id"], each.body["version"]) for each in evidence.history.successes("rename")
    }
    rows = await evidence.rows(
        "SELECT entity_id, entity_version FROM chaos.recorded"
        " WHERE (service, entity_type) = ('identity', 'user')"
    )
    return sorted(renames - {(row["entity_id"], row["entity_version"]) for row in rows})


async def find_sign_ins(evidence: Evidence) -> Violations:
    """The sign-ins in the audit trail are between the answered ones and all attempts."""
    [row] = await evidence.rows(
        "SELECT count(*) AS n FROM chaos.recorded WHERE action = 'LOGIN' AND service = 'identity'"
    )
    answers = len(evidence.history.of("sign-in"))
    attempts = evidence.history.attempts["sign-in"]
    if answers <= row["n"] <= attempts:
        return []
    return [f"{answers} responses, {row['n']} events, {attempts} attempts"]


async def find_unanswered(evidence: Evidence) -> Violations:
    """Every request is answered in the end."""
    return evidence.history.unanswered


async def find_foundings(evidence: Evidence) -> Violations:
    """Each organization in a response is stored, with its owner."""
    organizations = {
        (each.body["id"], each.body["owner"]["id"])
        for each in evidence.history.successes("founding")
    }
    rows = await evidence.rows(
        "SELECT o.id, u.id AS owner FROM organizations.organizations o"
        " JOIN identity.users u ON u.organization_id = o.id AND u.is_organization_owner"
    )
    return sorted(organizations - {(row["id"], row["owner"]) for row in rows})


async def find_refused_foundings(evidence: Evidence) -> Violations:
    """No organization is refused, because no name and no address is used twice."""
    return [each.body for each in evidence.history.of("founding") if not each.succeeded]


_HALF_FOUNDED = """
SELECT o.id AS organization, u.id AS owner FROM
(SELECT id FROM organizations.organizations WHERE name LIKE 'founded-%') o
FULL JOIN (
    SELECT id, organization_id FROM identity.users WHERE email LIKE 'founded-%'
) u ON u.organization_id = o.id
WHERE o.id IS NULL OR u.id IS NULL
"""
_UNFINISHED_PAYMENTS = """
SELECT id, status, gateway_transaction_id, void_requested_at FROM payments.payment_transactions
WHERE status IN ('pending', 'processing')
"""
# A payment stays open if its client never opened the bank's page; all others must finish.
_UNFINISHED_VOUCHERS = """
SELECT v.id, p.status FROM vouchers.vouchers v
LEFT JOIN payments.payment_transactions p ON p.voucher_id = v.id
WHERE v.status = 'pending' AND p.status IS DISTINCT FROM 'requires_action'
"""
_UNFINISHED_REFUNDS = "SELECT id, status FROM payments.refunds WHERE status = 'pending'"
_UNFINISHED_QUOTES = "SELECT id, voucher_id FROM vouchers.refund_quotes WHERE status = 'taken'"
_QUARANTINED = "SELECT id FROM payments.payment_transactions WHERE status = 'quarantined'"
_WEBHOOKS = """
SELECT id, type, attempts FROM payments.webhook_events
WHERE outcome IS NULL OR outcome = 'given_up'
"""
_FOUNDINGS = "SELECT organization_id FROM organizations.foundings"

SETTLED = [
    query("sagas", "unfinished payments", _UNFINISHED_PAYMENTS),
    query("sagas", "vouchers pending without a pending payment", _UNFINISHED_VOUCHERS),
    query("sagas", "unfinished refunds", _UNFINISHED_REFUNDS),
    query("sagas", "sessions withheld and never released", _UNFINISHED_QUOTES),
    query("sagas", "unhandled webhooks", _WEBHOOKS),
    query("sagas", "unfinished creations of organizations", _FOUNDINGS),
]
"""Work that must finish by itself within five minutes."""

CHECKS = [
    StateCheck("clients", "clients without an answer", find_unanswered),
    StateCheck("clients", "purchases lost, unexpected or twice", find_purchases),
    StateCheck("clients", "declined cards unaccounted for", find_declines),
    StateCheck("clients", "purchases refused without a reason", find_refusals),
    StateCheck("clients", "cancellations lost, unexpected or twice", find_cancellations),
    StateCheck("clients", "payments by hand lost, unexpected or twice", find_payments_by_hand),
    StateCheck("clients", "vouchers paid by hand and cancelled", find_paid_and_cancelled),
    StateCheck("clients", "redemptions lost, unexpected or twice", find_redemptions),
    StateCheck("clients", "reversals lost, unexpected or twice", find_reversals),
    StateCheck("clients", "refunds lost, unexpected or twice", find_refunds),
    StateCheck("clients", "refunds by quote lost, unexpected or twice", find_refunds_by_quote),
    StateCheck("clients", "refund quotes lost", find_quotes),
    StateCheck("clients", "disputes lost, unexpected or twice", find_disputes),
    StateCheck("clients", "vouchers redeemed during a dispute", find_redeemed_at_rest),
    StateCheck("clients", "edits lost, unexpected or twice", find_edits),
    StateCheck("clients", "renames lost", find_renames),
    StateCheck("clients", "sign-ins unaccounted for", find_sign_ins),
    StateCheck("clients", "organizations lost", find_foundings),
    StateCheck("clients", "organizations refused without a reason", find_refused_foundings),
    query("clients", "organizations without owner, or the reverse", _HALF_FOUNDED),
    *SETTLED,
    query("sagas", "payments quarantined", _QUARANTINED),
]
