"""The query of what the rules of a booking read of a voucher, its client and organization."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers.errors import OrganizationNotFound
from services.vouchers.models import AdjustmentKind, SessionKind, Voucher
from services.vouchers.scheduling.snapshots import RESERVED_STATUSES, ClientReservation
from shared.connections import fetch_flushed

_RESERVED = ", ".join(f"'{status}'" for status in sorted(RESERVED_STATUSES))
# One statement, for each costs a round trip and a snapshot of the server. A redemption with a
# reason is of a missed session, which frees its period.
_FACTS = f"""
    SELECT o.timezone, o.is_active AS is_organization_active,
    COALESCE(c.is_active, false) AS is_client_active,
    s.id IS NOT NULL AS has_settings, s.clients_book, s.therapists_edit_hours, s.feed_names,
    s.default_policy, s.version AS settings_version,
    ARRAY(
        SELECT ROW(a.starts_on, a.ends_on) FROM adjustments a
        WHERE a.organization_id = $1 AND a.voucher_id = $2 AND a.kind = '{AdjustmentKind.FREEZE}'
        AND a.reversed_at IS NULL
    ) AS freezes,
    ARRAY(
        SELECT ROW(
            r.session_id, r.status, r.starts_at, r.ends_at,
            r.voucher_id IS NOT DISTINCT FROM $2, r.may_overlap
        )
        FROM reservations r
        WHERE r.organization_id = $1 AND r.client_id = $3 AND r.status IN ({_RESERVED})
        AND (r.voucher_id = $2 OR r.ends_at > $4) AND r.id IS DISTINCT FROM $5
    ) AS reservations,
    ARRAY(
        SELECT d.session_date FROM redemptions d
        WHERE d.organization_id = $1 AND d.voucher_id = $2 AND d.kind = '{SessionKind.REGULAR}'
        AND d.reason IS NULL AND d.reservation_id IS NULL AND d.reversal_of IS NULL
        AND NOT EXISTS (SELECT FROM redemptions WHERE reversal_of = d.id)
    ) AS redeemed_days
    FROM organization_copies o
    LEFT JOIN client_copies c ON c.id = $3
    LEFT JOIN booking_settings s ON s.organization_id = o.id
    WHERE o.id = $1
"""  # noqa: S608


async def get_booking_facts(
    session: AsyncSession, voucher: Voucher, moment: datetime, *, without_id: int | None
) -> Mapping[str, Any]:
    """Return the facts by which a booking with a voucher is judged. Raises OrganizationNotFound.

    They are `timezone`, `is_organization_active`, `is_client_active`; the booking settings, if
    `has_settings`: `clients_book`, `therapists_edit_hours`, `feed_names`, `default_policy`,
    `settings_version`; `freezes`, each as its first and last day; `reservations`, of which
    `reservations_of` makes what the rules read: the active ones of the voucher, and those of its
    client in the organization that end after a moment, but not `without_id`; and `redeemed_days`,
    those of the voucher's regular redemptions in force that settled no reservation.
    """
    rows = await fetch_flushed(
        session,
        _FACTS,
        voucher.organization_id,
        voucher.id,
        voucher.client_id,
        moment,
        without_id,
    )
    if not rows:
        raise OrganizationNotFound
    return rows[0]


def reservations_of(facts: Mapping[str, Any]) -> Sequence[ClientReservation]:
    """Return the reservations among the facts of a booking."""
    return [ClientReservation(*columns) for columns in facts["reservations"]]
