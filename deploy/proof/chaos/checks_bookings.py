"""Checks of the bookings: clients' responses, places in sessions, and what vouchers pay."""

from deploy.proof.chaos.checks import Evidence, StateCheck, Violations, compare, query

_OPEN = "('held', 'booked')"


async def find_reservations(evidence: Evidence) -> Violations:
    """Each reservation in a response is stored, and each stored one is in a response, once."""
    history = evidence.history
    ids = [answer.body["id"] for answer in history.successes("reservation")]
    ids += [
        date["reservation_id"]
        for answer in history.successes("series")
        for date in answer.body["dates"]
        if date["reservation_id"] is not None
    ]
    rows = await evidence.rows(
        "SELECT id FROM vouchers.reservations WHERE organization_id = ANY($1::bigint[])",
        list(evidence.organizations),
    )
    return compare(ids, [row["id"] for row in rows])


async def find_released(evidence: Evidence) -> Violations:
    """A reservation whose cancellation was confirmed to the client is cancelled."""
    release_ids = {answer.body["id"] for answer in evidence.history.successes("release")}
    rows = await evidence.rows(
        "SELECT id FROM vouchers.reservations WHERE status IN ('cancelled', 'late_cancelled')"
    )
    return sorted(release_ids - {row["id"] for row in rows})


async def find_sessions(evidence: Evidence) -> Violations:
    """A session whose cancellation was confirmed to the owner is cancelled."""
    session_ids = {answer.body["id"] for answer in evidence.history.successes("session cancelled")}
    rows = await evidence.rows("SELECT id FROM vouchers.sessions WHERE status = 'cancelled'")
    return sorted(session_ids - {row["id"] for row in rows})


_EARMARKS = f"""
SELECT v.id, v.booked_sessions, count(r.id) AS reservations FROM vouchers.vouchers v
LEFT JOIN vouchers.reservations r ON r.voucher_id = v.id AND r.status IN {_OPEN}
GROUP BY v.id HAVING v.booked_sessions <> count(r.id)
"""  # noqa: S608
_SEATS = """
SELECT s.id, s.seats_taken, count(r.id) AS reservations FROM vouchers.sessions s
LEFT JOIN vouchers.reservations r ON r.session_id = s.id
    AND r.status IN ('held', 'booked', 'attended', 'no_show')
GROUP BY s.id HAVING s.seats_taken <> count(r.id) OR s.seats_taken > s.capacity
"""
_OCCUPIED_TWICE = """
SELECT a.session_id, b.session_id AS other FROM vouchers.occupations a
JOIN vouchers.occupations b ON a.resource_id = b.resource_id AND a.session_id < b.session_id
    AND a.blocked && b.blocked AND a.enforced AND b.enforced
"""
_PLACES_IN_CANCELLED = f"""
SELECT r.id, s.id AS session FROM vouchers.reservations r
JOIN vouchers.sessions s ON s.id = r.session_id
WHERE r.status IN {_OPEN} AND s.status = 'cancelled'
"""  # noqa: S608
_OF_ENDED_VOUCHERS = f"""
SELECT r.id, v.id AS voucher FROM vouchers.reservations r
JOIN vouchers.vouchers v ON v.id = r.voucher_id
WHERE r.status IN {_OPEN} AND r.starts_at > now() AND v.status = 'cancelled'
"""  # noqa: S608
# A redemption that was reversed is not that of its reservation any more.
_SETTLED_OTHERWISE = """
SELECT r.id, r.redemption_id FROM vouchers.reservations r
LEFT JOIN vouchers.redemptions d ON d.id = r.redemption_id
WHERE r.redemption_id IS NOT NULL
AND (d.reservation_id IS DISTINCT FROM r.id OR d.voucher_id <> r.voucher_id)
"""
_LAPSED = """
SELECT id, held_until FROM vouchers.reservations WHERE status = 'held' AND held_until < now()
"""

SETTLED = [query("bookings", "holds that lapsed and are still held", _LAPSED)]
"""Work that must finish by itself within five minutes."""

CHECKS = [
    StateCheck("bookings", "reservations lost, unexpected or twice", find_reservations),
    StateCheck("bookings", "reservations open although cancelled", find_released),
    StateCheck("bookings", "sessions open although cancelled", find_sessions),
    query("bookings", "sessions booked that are not the reservations", _EARMARKS),
    query("bookings", "seats that are not the reservations", _SEATS),
    query("bookings", "therapists in two sessions at once", _OCCUPIED_TWICE),
    query("bookings", "places in cancelled sessions", _PLACES_IN_CANCELLED),
    query("bookings", "places of cancelled vouchers", _OF_ENDED_VOUCHERS),
    query("bookings", "reservations settled by another redemption", _SETTLED_OTHERWISE),
    *SETTLED,
]
