"""Checks of the converted bookings: what one row says about others must be true.

Each query counts the rows that fail, and returns the first of their ids. $1 is the highest id of
version 1 in the table that is checked.
"""

from collections.abc import Mapping

_SESSIONS = """
    SELECT count(*) AS unequal, min(r.id) AS first
    FROM reservations r LEFT JOIN sessions s ON s.id = r.session_id
    WHERE r.id <= $1 AND (s.id IS NULL OR s.starts_at <> r.starts_at OR s.ends_at <> r.ends_at
        OR s.organization_id <> r.organization_id
        OR s.therapy_class_id IS DISTINCT FROM r.therapy_class_id)
"""
# A session that the conversion added has a higher id, but reservations of version 1.
_SEATS = """
    SELECT count(*) AS unequal, min(s.id) AS first
    FROM sessions s LEFT JOIN therapy_classes c ON c.id = s.therapy_class_id
    LEFT JOIN (
        SELECT session_id, count(*) AS places FROM reservations
        WHERE status IN ('held', 'booked', 'attended', 'no_show') GROUP BY session_id
    ) r ON r.session_id = s.id
    WHERE (s.id <= $1 OR s.id IN (SELECT id FROM upgrade_findings WHERE rule = 'session_added'))
    AND (s.seats_taken <> coalesce(r.places, 0)
        OR s.capacity <> greatest(coalesce(c.capacity, 1), coalesce(r.places, 0)))
"""
_EARMARKS = """
    SELECT count(*) AS unequal, min(v.id) AS first
    FROM vouchers v LEFT JOIN (
        SELECT voucher_id, count(*) AS booked FROM reservations
        WHERE status IN ('held', 'booked') GROUP BY voucher_id
    ) r ON r.voucher_id = v.id
    WHERE v.id <= $1 AND v.booked_sessions <> coalesce(r.booked, 0)
"""
_PAYERS = """
    SELECT count(*) AS unequal, min(r.id) AS first
    FROM reservations r LEFT JOIN vouchers v ON v.id = r.voucher_id
        LEFT JOIN redemptions d ON d.id = r.redemption_id
    WHERE r.id <= $1 AND (
        r.voucher_id IS NOT NULL AND v.client_id IS DISTINCT FROM r.client_id
        OR r.redemption_id IS NOT NULL AND (r.status <> 'attended'
            OR d.reservation_id IS DISTINCT FROM r.id
            OR d.voucher_id IS DISTINCT FROM r.voucher_id
            OR d.voucher_code_id IS DISTINCT FROM r.voucher_code_id)
        OR (r.status IN ('held', 'booked') AND r.voucher_id IS NULL) <> EXISTS (
            SELECT FROM upgrade_findings f WHERE f.table_name = 'reservations' AND f.id = r.id
            AND f.rule IN ('unfunded', 'code_used_already')))
"""
_OCCUPATIONS = """
    SELECT count(*) AS unequal, min(s.id) AS first
    FROM sessions s CROSS JOIN (SELECT began_at FROM upgrade_plan) plan
    WHERE s.id <= $1 AND EXISTS (SELECT FROM occupations o WHERE o.session_id = s.id) <> (
        s.status = 'scheduled' AND s.therapist_id IS NOT NULL AND s.ends_at > plan.began_at)
"""

CHECKS: Mapping[str, tuple[str, str]] = {
    "session of every reservation": ("reservations", _SESSIONS),
    "seats of every session are its reservations": ("sessions", _SEATS),
    "sessions booked of every voucher are its reservations": ("vouchers", _EARMARKS),
    "voucher and redemption of every reservation": ("reservations", _PAYERS),
    "time of therapists that future sessions block": ("sessions", _OCCUPATIONS),
}
"""The name of each check, the table whose extent it takes, and its query."""
