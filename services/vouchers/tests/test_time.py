"""The timers: vouchers expire at midnight, unpaid vouchers are cancelled."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from services.vouchers.app import clients_of
from services.vouchers.schemas.vouchers import VoucherRead
from services.vouchers.service.expiry import expire_vouchers
from services.vouchers.service.refund_quotes import delete_expired
from services.vouchers.service.remote_copies import RemoteCopies, fetch_missing_organizations
from services.vouchers.service.unpaid_vouchers import PaymentDeadlines, cancel_unpaid
from services.vouchers.settings import Settings
from services.vouchers.tests.environment import Transports
from services.vouchers.tests.outside import ORGANIZATION, OTHER_ORGANIZATION, Payments
from services.vouchers.tests.people import People, buy, new_type, new_voucher, redeem
from services.vouchers.worker import deadlines_of
from shared.context import system_origin
from shared.db import now
from shared.errors import ServiceUnavailable
from shared.testing import Database
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio

DAY = timedelta(hours=24)
PATIENCE = PaymentDeadlines(cards=DAY, others=30 * DAY)


async def _last_day(database: Database, voucher: dict[str, Any], day: date) -> None:
    async with database.admin() as connection:
        await connection.execute(
            "UPDATE vouchers SET valid_until = $1, valid_from = $2 WHERE id = $3",
            day,
            day - timedelta(days=30),
            voucher["id"],
        )


async def _statuses(database: Database) -> dict[int, str]:
    rows = await database.rows("SELECT id, status FROM vouchers")
    return {row["id"]: row["status"] for row in rows}


@pytest.mark.parametrize(
    ("last_day", "midnight"),
    [
        (date(2026, 3, 28), datetime(2026, 3, 28, 23, 0, tzinfo=UTC)),
        (date(2026, 3, 29), datetime(2026, 3, 29, 22, 0, tzinfo=UTC)),
        (date(2026, 10, 24), datetime(2026, 10, 24, 22, 0, tzinfo=UTC)),
        (date(2026, 10, 25), datetime(2026, 10, 25, 23, 0, tzinfo=UTC)),
    ],
)
async def test_a_voucher_expires_at_midnight_of_its_own_clock(
    client: httpx.AsyncClient,
    people: People,
    database: Database,
    transactions: Transactions,
    last_day: date,
    midnight: datetime,
) -> None:
    warsaw = await new_voucher(client, people)
    kind = await new_type(client, people.other_owner, OTHER_ORGANIZATION)
    utc = (await buy(client, people.other_client, kind["id"])).json()
    for voucher in (warsaw, utc):
        await _last_day(database, voucher, last_day)
    assert await expire_vouchers(transactions, midnight - timedelta(seconds=1)) == 0
    assert await expire_vouchers(transactions, midnight) == 1
    assert await _statuses(database) == {warsaw["id"]: "expired", utc["id"]: "active"}
    assert await expire_vouchers(transactions, midnight) == 0
    in_utc = datetime.combine(last_day + timedelta(days=1), datetime.min.time(), UTC)
    assert await expire_vouchers(transactions, in_utc) == 1
    expirations = [
        event for event in await database.events() if event["type"].endswith("expired.v1")
    ]
    assert [event["data"]["actor"]["role"] for event in expirations] == ["system", "system"]
    assert expirations[0]["data"]["old_values"] == {"status": "active"}


@pytest.mark.parametrize("zone", ["Antarctica/Atlantis", "../Atlantis", "Europe"])
async def test_a_zone_that_is_not_known_here_keeps_no_other_from_its_midnight(
    client: httpx.AsyncClient,
    people: People,
    database: Database,
    transactions: Transactions,
    zone: str,
) -> None:
    kind = await new_type(client, people.other_owner, OTHER_ORGANIZATION)
    other = (await buy(client, people.other_client, kind["id"])).json()
    lost = await new_voucher(client, people)
    async with database.admin() as connection:
        statement = "UPDATE organization_copies SET timezone = $1 WHERE id = $2"
        await connection.execute(statement, zone, ORGANIZATION)
    assert await expire_vouchers(transactions, now() + timedelta(days=400)) == 1
    assert await _statuses(database) == {other["id"]: "expired", lost["id"]: "active"}


def _is_stored(name: str) -> bool:
    return name != "id" and not name.endswith("_left")


async def test_more_than_one_batch_expires(
    client: httpx.AsyncClient, people: People, database: Database, transactions: Transactions
) -> None:
    voucher = await new_voucher(client, people)
    columns = ", ".join(name for name in VoucherRead.model_fields if _is_stored(name))
    async with database.admin() as connection:
        await connection.execute(
            f"INSERT INTO vouchers ({columns})"
            f" SELECT {columns} FROM vouchers, generate_series(1, 104) WHERE id = $1",
            voucher["id"],
        )
    assert await expire_vouchers(transactions, now() + timedelta(days=91)) == 105
    assert set((await _statuses(database)).values()) == {"expired"}


async def test_an_unpaid_voucher_is_cancelled_after_a_day(
    client: httpx.AsyncClient,
    people: People,
    payments: Payments,
    database: Database,
    transactions: Transactions,
) -> None:
    kind = await new_type(client, people.owner)
    unpaid = (await buy(client, people.client, kind["id"], payment_token="pm_3ds")).json()
    paid = (await buy(client, people.client, kind["id"])).json()
    assert (
        await cancel_unpaid(
            transactions, payments.close, PATIENCE, now() + DAY - timedelta(minutes=1)
        )
        == 0
    )
    assert await cancel_unpaid(transactions, payments.close, PATIENCE, now() + DAY) == 1
    assert await cancel_unpaid(transactions, payments.close, PATIENCE, now() + DAY) == 0
    assert await _statuses(database) == {unpaid["id"]: "cancelled", paid["id"]: "active"}
    last = (await database.events())[-1]["data"]
    assert (last["action"], last["new_values"]["reason"]) == ("CANCEL", "unpaid")
    assert last["old_values"]["status"] == "pending", "payments voids what was pending"


async def test_an_organization_whose_clock_is_unknown_is_asked_for(
    client: httpx.AsyncClient,
    people: People,
    database: Database,
    settings: Settings,
    transports: Transports,
    transactions: Transactions,
) -> None:
    voucher = await new_voucher(client, people)
    async with database.admin() as connection:
        await connection.execute("DELETE FROM organization_copies")
    later = now() + timedelta(days=91)
    assert await expire_vouchers(transactions, later) == 0
    clients = clients_of(settings, transports)
    remote_copies = RemoteCopies(clients, system_origin(), transactions.system)
    await fetch_missing_organizations(transactions, remote_copies)
    await clients.aclose()
    assert await expire_vouchers(transactions, later) == 1
    assert await _statuses(database) == {voucher["id"]: "expired"}
    assert voucher["organization_id"] == ORGANIZATION


@pytest.mark.parametrize("method", ["bank_transfer", "cash", "other"])
async def test_money_that_comes_by_hand_may_take_weeks(
    client: httpx.AsyncClient,
    people: People,
    payments: Payments,
    database: Database,
    transactions: Transactions,
    settings: Settings,
    method: str,
) -> None:
    kind = await new_type(client, people.owner)
    order = {"payment_method": method, "payment_token": None}
    unpaid = (await buy(client, people.client, kind["id"], **order)).json()
    patience = deadlines_of(settings)
    assert await cancel_unpaid(transactions, payments.close, patience, now() + 29 * DAY) == 0
    assert await _statuses(database) == {unpaid["id"]: "pending"}
    assert await cancel_unpaid(transactions, payments.close, patience, now() + 31 * DAY) == 1


async def test_money_that_came_by_hand_keeps_its_voucher(
    client: httpx.AsyncClient,
    people: People,
    payments: Payments,
    database: Database,
    transactions: Transactions,
) -> None:
    """Payments reports that the money was first; one voucher does not block the others."""
    kind = await new_type(client, people.owner)
    cash = {"payment_method": "cash", "payment_token": None}
    first, second = [(await buy(client, people.client, kind["id"], **cash)).json() for _ in "12"]
    payments.paid_by_hand.add(first["id"])
    assert await cancel_unpaid(transactions, payments.close, PATIENCE, now() + 40 * DAY) == 1
    statuses = {first["id"]: "pending", second["id"]: "cancelled"}
    assert await _statuses(database) == statuses


async def test_a_payment_that_cannot_be_closed_keeps_no_other_voucher_waiting(
    client: httpx.AsyncClient, people: People, database: Database, transactions: Transactions
) -> None:
    kind = await new_type(client, people.owner)
    cash = {"payment_method": "cash", "payment_token": None}
    numbers = [(await buy(client, people.client, kind["id"], **cash)).json()["id"] for _ in "12345"]
    asked: list[int] = []

    async def close(voucher_id: int) -> None:
        asked.append(voucher_id)
        if voucher_id != numbers[1]:
            raise ServiceUnavailable

    with pytest.raises(ServiceUnavailable):
        await cancel_unpaid(transactions, close, PATIENCE, now() + 40 * DAY)
    assert asked == numbers, "three in a row: payments is away"
    assert (await _statuses(database))[numbers[1]] == "cancelled"


async def test_a_session_before_the_end_may_be_entered_after_it(
    client: httpx.AsyncClient, people: People, database: Database, transactions: Transactions
) -> None:
    """Friday evening's session, entered on Saturday."""
    kind = await new_type(client, people.owner, total_sessions=1, backup_sessions=0)
    voucher = (await buy(client, people.client, kind["id"])).json()
    yesterday = (now() - DAY).date()
    await _last_day(database, voucher, yesterday)
    await expire_vouchers(transactions, now())
    assert await _statuses(database) == {voucher["id"]: "expired"}
    late = await redeem(client, people.therapist, voucher["id"])
    assert (late.status_code, late.json()["code"]) == (409, "voucher_expired")
    after = {"session_date": now().date().isoformat()}
    late = await redeem(client, people.therapist, voucher["id"], **after)
    assert (late.status_code, late.json()["code"]) == (409, "voucher_expired")
    before = {"session_date": yesterday.isoformat()}
    entered = await redeem(client, people.therapist, voucher["id"], **before)
    assert (entered.status_code, entered.json()["session_date"]) == (201, before["session_date"])
    assert await _statuses(database) == {voucher["id"]: "expired"}, "and not completed"
    again = await redeem(client, people.therapist, voucher["id"], **before)
    assert (again.status_code, again.json()["code"]) == (409, "voucher_exhausted")


async def test_unused_quotes_are_deleted(
    client: httpx.AsyncClient, people: People, database: Database, transactions: Transactions
) -> None:
    """A user may request any number of quotes."""
    used, other = [await new_voucher(client, people) for _ in range(2)]
    made = []
    for voucher in (other, other, used):
        path = f"/api/vouchers/{voucher['id']}/refund-quote"
        made.append((await client.post(path, headers=people.owner)).json()["id"])
    old, recent, taken = made
    body = {"quote_id": taken}
    await client.post(f"/api/vouchers/{used['id']}/refunds", json=body, headers=people.owner)
    async with database.admin() as admin:
        back = "UPDATE refund_quotes SET valid_until = now() - $1::interval WHERE id = ANY($2)"
        await admin.execute(back, timedelta(hours=25), [old, taken])
        await admin.execute(back, timedelta(hours=23), [recent])
    await delete_expired(transactions)
    async with transactions.system() as session:
        await session.execute(text("DELETE FROM refund_quotes WHERE id = :id"), {"id": taken})
    left = await database.rows("SELECT id FROM refund_quotes ORDER BY id")
    assert [row["id"] for row in left] == [recent, taken]
