"""Checks of what clients were told against what is there, and of what never came to an end."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from deploy.proof.chaos.checks import Check, Evidence, Wrong, query

_BY_HAND = "payment_method IN ('cash', 'bank_transfer')"


def _compare(told: Iterable[Any], there: Iterable[Any]) -> list[str]:
    """Compare ids that clients were given with those of rows: each in both, once."""
    counted, rows = Counter(told), set(there)
    lost = [f"{i}: told, and not there" for i in counted.keys() - rows]
    unexpected = [f"{i}: there, and nobody was told" for i in rows - counted.keys()]
    twice = [f"{i}: told {n} times" for i, n in counted.items() if n > 1]
    return [*lost, *unexpected, *twice]


async def _ids(evidence: Evidence, table: str, condition: str = "true") -> list[int]:
    rows = await evidence.rows(
        f"SELECT id FROM {table} WHERE organization_id = ANY($1::bigint[])"  # noqa: S608
        f" AND {condition}",
        list(evidence.organizations),
    )
    return [row["id"] for row in rows]


async def _purchases(evidence: Evidence) -> Wrong:
    """Each purchase is a voucher; a declined card's client was not told its id.

    Unless the card gateway did not answer then: that voucher was pending, and fails later. One that
    was to be paid by hand and was cancelled counts as failed, too, and its client was told its id.
    """
    later = {told.body["id"] for told in evidence.history.of("declined later")}
    sold = [told.body["id"] for told in evidence.history.done("purchase")]
    sold_there = f"(payment_status <> 'failed' OR {_BY_HAND})"
    kept = await _ids(evidence, "vouchers.vouchers", sold_there)
    return _compare([id_ for id_ in sold if id_ not in later], kept)


async def _declines(evidence: Evidence) -> Wrong:
    """As many vouchers have failed as clients had a card that was declined."""
    told = [t for t in evidence.history.of("purchase") if t.status == 402]
    told += evidence.history.of("declined later")
    declined = f"payment_status = 'failed' AND NOT ({_BY_HAND})"
    failed = await _ids(evidence, "vouchers.vouchers", declined)
    difference = abs(len(told) - len(failed))
    return [f"{len(told)} told, {len(failed)} there"] * difference


async def _refusals(evidence: Evidence) -> Wrong:
    """Nobody is refused a purchase for another reason: nothing here gives one."""
    answers = evidence.history.of("purchase")
    return [t.body for t in answers if not t.done and t.status != 402]


async def _cancellations(evidence: Evidence) -> Wrong:
    """Each cancellation of a voucher to be paid by hand is there; no other voucher of these is."""
    told = [t.body["id"] for t in evidence.history.done("cancellation")]
    cancelled = f"status = 'cancelled' AND {_BY_HAND}"
    return _compare(told, await _ids(evidence, "vouchers.vouchers", cancelled))


async def _payments_by_hand(evidence: Evidence) -> Wrong:
    told = [t.body["id"] for t in evidence.history.done("mark-paid")]
    paid = f"captured_amount > 0 AND {_BY_HAND}"
    return _compare(told, await _ids(evidence, "payments.payment_transactions", paid))


async def _paid_and_cancelled(evidence: Evidence) -> Wrong:
    """Either staff or the client were refused: payments knew each payment when both came."""
    paid = {t.body["voucher_id"] for t in evidence.history.done("mark-paid")}
    return sorted(paid & {t.body["id"] for t in evidence.history.done("cancellation")})


async def _redemptions(evidence: Evidence) -> Wrong:
    told = [t.body["id"] for t in evidence.history.done("redemption")]
    return _compare(told, await _ids(evidence, "vouchers.redemptions", "reversal_of IS NULL"))


async def _reversals(evidence: Evidence) -> Wrong:
    told = [t.body["id"] for t in evidence.history.done("reversal")]
    return _compare(told, await _ids(evidence, "vouchers.redemptions", "reversal_of IS NOT NULL"))


async def _refunds(evidence: Evidence) -> Wrong:
    told = [t.body["id"] for t in evidence.history.done("refund")]
    return _compare(told, await _ids(evidence, "payments.refunds", "quote_id IS NULL"))


async def _refunds_by_quote(evidence: Evidence) -> Wrong:
    """Each is a refund, once; one that failed at once was told as a refusal, without an id."""
    told = [t.body["id"] for t in evidence.history.done("refund-by-quote")]
    noted = await _ids(evidence, "payments.refunds", "quote_id IS NOT NULL")
    failed = await _ids(evidence, "payments.refunds", "quote_id IS NOT NULL AND status = 'failed'")
    refused = set(failed) - set(told)
    return _compare(told, [one for one in noted if one not in refused])


async def _quotes(evidence: Evidence) -> Wrong:
    """Who was told of a quote finds it; one that nobody was told of binds nobody."""
    told = {t.body["id"] for t in evidence.history.done("quote")}
    return sorted(told - set(await _ids(evidence, "vouchers.refund_quotes")))


async def _disputes(evidence: Evidence) -> Wrong:
    """Each dispute of the bank's is known once, and stands as the bank has left it."""
    theirs = {t.body["id"]: t.body["status"] for t in evidence.history.of("dispute")}
    theirs |= {t.body["id"]: t.body["status"] for t in evidence.history.of("decision")}
    ours = await evidence.rows(
        "SELECT gateway_dispute_id, status FROM payments.disputes"
        " WHERE organization_id = ANY($1::bigint[])",
        list(evidence.organizations),
    )
    return _compare(theirs.items(), [(row["gateway_dispute_id"], row["status"]) for row in ours])


async def _redeemed_at_rest(evidence: Evidence) -> Wrong:
    """Nobody redeems a voucher between the dispute of its money and the bank's decision."""
    return [t.body for t in evidence.history.done("redemption at rest")]


async def _edits(evidence: Evidence) -> Wrong:
    """Every edit is one event of the version that its client was shown."""
    told = [(t.body["id"], t.body["version"]) for t in evidence.history.done("edit")]
    rows = await evidence.rows(
        "SELECT entity_id, entity_version FROM chaos.recorded"
        " WHERE (service, entity_type, action) = ('vouchers', 'voucher_type', 'UPDATE')"
    )
    return _compare(told, [(row["entity_id"], row["entity_version"]) for row in rows])


async def _renames(evidence: Evidence) -> Wrong:
    """Every new name is an event; one whose answer was lost may be told with the next version."""
    told = {(t.body["id"], t.body["version"]) for t in evidence.history.done("rename")}
    rows = await evidence.rows(
        "SELECT entity_id, entity_version FROM chaos.recorded"
        " WHERE (service, entity_type) = ('identity', 'user')"
    )
    return sorted(told - {(row["entity_id"], row["entity_version"]) for row in rows})


async def _sign_ins(evidence: Evidence) -> Wrong:
    """At least as many sign-ins are in the trail as were answered, at most as many as tried."""
    [row] = await evidence.rows(
        "SELECT count(*) AS n FROM chaos.recorded WHERE action = 'LOGIN' AND service = 'identity'"
    )
    told = len(evidence.history.of("sign-in"))
    tried = evidence.history.attempts["sign-in"]
    return [] if told <= row["n"] <= tried else [f"{told} told, {row['n']} there, {tried} tried"]


async def _unanswered(evidence: Evidence) -> Wrong:
    return evidence.history.unanswered


async def _foundings(evidence: Evidence) -> Wrong:
    """Who was told of an organization has it, and its owner."""
    told = [(t.body["id"], t.body["owner"]["id"]) for t in evidence.history.done("founding")]
    rows = await evidence.rows(
        "SELECT o.id, u.id AS owner FROM organizations.organizations o"
        " JOIN identity.users u ON u.organization_id = o.id AND u.is_organization_owner"
    )
    return sorted(set(told) - {(row["id"], row["owner"]) for row in rows})


async def _refused_foundings(evidence: Evidence) -> Wrong:
    """Nobody is refused an organization: no name and no address is used twice."""
    return [t.body for t in evidence.history.of("founding") if not t.done]


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
# Who never went to the bank's page owes the rest of the story; all others' payments have an end.
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
    query("sagas", "payments without an end", _UNFINISHED_PAYMENTS),
    query("sagas", "vouchers pending without a payment that waits", _UNFINISHED_VOUCHERS),
    query("sagas", "refunds without an end", _UNFINISHED_REFUNDS),
    query("sagas", "sessions withheld without an end", _UNFINISHED_QUOTES),
    query("sagas", "webhooks not dealt with", _WEBHOOKS),
    query("sagas", "foundings without an end", _FOUNDINGS),
]
"""What must come to an end by itself within five minutes."""

CHECKS = [
    Check("clients", "clients without an answer", _unanswered),
    Check("clients", "purchases lost, unexpected or twice", _purchases),
    Check("clients", "declined cards unaccounted for", _declines),
    Check("clients", "purchases refused without a reason", _refusals),
    Check("clients", "cancellations lost, unexpected or twice", _cancellations),
    Check("clients", "payments by hand lost, unexpected or twice", _payments_by_hand),
    Check("clients", "vouchers paid by hand and cancelled", _paid_and_cancelled),
    Check("clients", "redemptions lost, unexpected or twice", _redemptions),
    Check("clients", "reversals lost, unexpected or twice", _reversals),
    Check("clients", "refunds lost, unexpected or twice", _refunds),
    Check("clients", "refunds by quote lost, unexpected or twice", _refunds_by_quote),
    Check("clients", "refund quotes lost", _quotes),
    Check("clients", "disputes lost, unexpected or twice", _disputes),
    Check("clients", "vouchers redeemed while they rest", _redeemed_at_rest),
    Check("clients", "edits lost, unexpected or twice", _edits),
    Check("clients", "new names lost", _renames),
    Check("clients", "sign-ins unaccounted for", _sign_ins),
    Check("clients", "organizations lost", _foundings),
    Check("clients", "organizations refused without a reason", _refused_foundings),
    query("clients", "organizations without owner, owners without one", _HALF_FOUNDED),
    *SETTLED,
    query("sagas", "payments quarantined", _QUARANTINED),
]
