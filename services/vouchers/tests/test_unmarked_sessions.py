"""Sessions that nobody marked, and the timer that settles them."""

import asyncio
from datetime import datetime
from typing import Any

import pytest

from services.vouchers.service.unmarked_sessions import settle_unmarked
from services.vouchers.tests.practice import HOME, THERAPIST, Practice, at, send
from shared.testing import Database
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio


async def past_session(practice: Practice, starts_at: datetime, **terms: Any) -> dict[str, Any]:
    """Book a session and let it have been at a time; return the reservation."""
    await practice.add_therapist()
    voucher = await practice.voucher(**terms)
    reservation = await practice.booked(voucher["id"], starts_at=at(3), therapist_id=THERAPIST)
    await practice.begin(reservation, starts_at)
    return reservation


async def set_policy(practice: Practice, **policy: Any) -> None:
    """Set the default policy of the organization."""
    path, owner = f"{HOME}/booking-settings", practice.people.owner
    await send(practice.client, "PUT", path, owner, {"default_policy": policy})


async def test_an_unmarked_session_counts_as_attended_and_nobody_attests_it(
    practice: Practice, database: Database, transactions: Transactions
) -> None:
    reservation = await past_session(practice, at(-3))
    assert await settle_unmarked(transactions) == 1
    path = f"/api/reservations/{reservation['id']}"
    settled = await send(practice.client, "GET", path, practice.people.owner)
    assert (settled["status"], settled["booked_sessions"]) == ("attended", 0)
    assert (settled["attestation"], settled["is_attested"]) == ("timer", False)
    [redemption] = await database.rows("SELECT kind, therapist_id FROM redemptions")
    assert tuple(redemption.values()) == ("regular", THERAPIST)
    actors = {
        event["data"]["actor"]["role"]
        for event in await database.events()
        if event["type"] in ("vouchers.reservation.attended.v1", "vouchers.redemption.created.v1")
    }
    assert actors == {"system"}
    await practice.require_sums()
    assert await settle_unmarked(transactions) == 0


async def test_two_timers_settle_a_session_once(
    practice: Practice, database: Database, transactions: Transactions
) -> None:
    await past_session(practice, at(-3))
    totals = await asyncio.gather(*(settle_unmarked(transactions) for _ in range(3)))
    assert sum(totals) == 1
    assert len(await database.rows("SELECT * FROM redemptions")) == 1
    await practice.require_sums()


POLICIES: dict[str, tuple[dict[str, Any], dict[str, Any], int]] = {
    "too early by default": ({}, {}, 0),
    "hours of the organization": ({"settle_hours": 1}, {}, 1),
    "hours of the voucher": ({"settle_hours": 100}, {"settle_hours": 1}, 1),
    "left by the organization": ({"settle_hours": 1, "unmarked": "leave"}, {}, 0),
    "left by the voucher": ({"settle_hours": 1}, {"unmarked": "leave"}, 0),
}


@pytest.mark.parametrize("case", POLICIES)
async def test_the_booking_policy_decides_when_and_whether(
    practice: Practice, transactions: Transactions, case: str
) -> None:
    default, own, number = POLICIES[case]
    await past_session(practice, at(-1), booking_policy=own)
    await set_policy(practice, **default)
    assert await settle_unmarked(transactions) == number
    path = f"{HOME}/reservations?unmarked=true"
    assert len(await send(practice.client, "GET", path, practice.people.owner)) == 1 - number


async def test_a_mark_that_was_taken_back_is_left_to_the_staff(
    practice: Practice, transactions: Transactions
) -> None:
    reservation = await past_session(practice, at(-3))
    client, owner = practice.client, practice.people.owner
    path = f"/api/reservations/{reservation['id']}"
    marked = await send(client, "POST", f"{path}/attend", owner)
    ledger = f"/api/vouchers/{reservation['voucher_id']}/redemptions"
    await send(client, "POST", f"{ledger}/{marked['redemption_id']}/reverse", owner)
    assert await settle_unmarked(transactions) == 0
    missed = await send(client, "POST", f"{path}/no-show", owner)
    assert (missed["status"], missed["backup_sessions_left"]) == ("no_show", 1)
    await practice.require_sums()
