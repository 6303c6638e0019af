"""The main story: a voucher type, a purchase, a redemption."""

import httpx
import pytest

from services.vouchers.tests.people import People, buy, new_type, redeem
from shared.testing import Database

pytestmark = pytest.mark.anyio


async def test_from_type_to_redemption(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    kind = await new_type(client, people.owner)
    offers = await client.get("/api/voucher-types/available", headers=people.client)
    assert [offer["id"] for offer in offers.json()] == [kind["id"]], offers.text
    assert offers.json()[0]["timezone"] == "Europe/Warsaw"
    bought = await buy(client, people.client, kind["id"])
    assert bought.status_code == 201, bought.text
    voucher = bought.json()
    assert (voucher["status"], voucher["payment_status"]) == ("active", "paid")
    assert len(voucher["codes"]) == 12
    answer = await redeem(client, people.therapist, voucher["id"], code=voucher["codes"][0]["code"])
    assert answer.status_code == 201, answer.text
    assert answer.json()["regular_sessions_left"] == 9
    mine = await client.get("/api/vouchers/my", headers=people.client)
    assert mine.json()[0]["regular_sessions_left"] == 9, mine.text
    listed = await client.get("/api/organizations/7/vouchers", headers=people.owner)
    assert listed.json()[0]["client_name"] == "Client 21", listed.text
    assert [event["type"] for event in await database.events()] == [
        "vouchers.voucher_type.created.v1",
        "vouchers.voucher.purchased.v1",
        "vouchers.voucher.activated.v1",
        "vouchers.redemption.created.v1",
    ]
