"""Redeeming sessions and reversing redemptions."""

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import httpx
import pytest

from services.vouchers.service.calendar import day_in
from services.vouchers.tests.outside import ORGANIZATION
from services.vouchers.tests.people import (
    People,
    buy,
    new_type,
    new_voucher,
    redeem,
    sold_earlier,
)
from shared.db import now
from shared.testing import Database

pytestmark = pytest.mark.anyio


def _codes(voucher: dict[str, Any], *, backup: bool) -> list[str]:
    return [code["code"] for code in voucher["codes"] if code["is_backup"] is backup]


async def _reverse(
    client: httpx.AsyncClient, headers: dict[str, str], redemption: dict[str, Any], **body: Any
) -> httpx.Response:
    path = f"/api/vouchers/{redemption['voucher_id']}/redemptions/{redemption['id']}/reverse"
    return await client.post(path, json=body or None, headers=headers)


async def test_a_code_is_spent_once(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    voucher = await new_voucher(client, people)
    code = _codes(voucher, backup=False)[4]
    answer = await redeem(client, people.therapist, voucher["id"], code=code.lower(), note="Calm")
    spent = answer.json()
    assert answer.status_code == 201
    assert (spent["code"], spent["kind"], spent["therapist_id"]) == (code, "regular", 12)
    assert spent["session_date"] == voucher["valid_from"]
    assert (spent["regular_sessions_left"], spent["backup_sessions_left"]) == (9, 2)
    assert spent["voucher_status"] == "active"
    again = await redeem(client, people.therapist, voucher["id"], code=code)
    assert (again.status_code, again.json()["code"]) == (409, "code_already_used")
    shown = (await client.get(f"/api/vouchers/{voucher['id']}", headers=people.client)).json()
    assert [c["code"] for c in shown["codes"] if c["is_used"]] == [code]
    event = (await database.events())[-1]
    assert event["type"] == "vouchers.redemption.created.v1"
    assert event["data"]["new_values"]["regular_sessions_left"] == 9
    assert "Calm" not in str(event), "a therapist's note is confidential"
    assert code not in str(event)


async def test_a_code_may_be_typed_as_it_is_read_out(
    client: httpx.AsyncClient, people: People
) -> None:
    voucher = await new_voucher(client, people)
    for code, (left, right) in zip(
        _codes(voucher, backup=False), (("", " "), (" ", "-")), strict=False
    ):
        typed = f"{left}{code[:4]}{right}{code[4:].lower()}"
        spent = await redeem(client, people.therapist, voucher["id"], code=typed)
        assert (spent.status_code, spent.json()["code"]) == (201, code)


async def test_the_therapists_note_is_not_for_the_client(
    client: httpx.AsyncClient, people: People
) -> None:
    voucher = await new_voucher(client, people)
    await redeem(client, people.therapist, voucher["id"], note="Confidential.")
    path = f"/api/vouchers/{voucher['id']}/redemptions"
    for headers, expected in ((people.therapist, "Confidential."), (people.client, None)):
        [row] = (await client.get(path, headers=headers)).json()
        assert row["note"] == expected


async def test_without_a_code_the_next_regular_one_is_spent(
    client: httpx.AsyncClient, people: People
) -> None:
    voucher = await new_voucher(client, people)
    for code in _codes(voucher, backup=False)[:2]:
        answer = await redeem(client, people.therapist, voucher["id"])
        assert (answer.json()["kind"], answer.json()["code"]) == ("regular", code)


async def test_a_backup_session_needs_a_reason(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    voucher = await new_voucher(client, people)
    backup = _codes(voucher, backup=True)
    for order in ({"kind": "backup"}, {"code": backup[0]}):
        refused = await redeem(client, people.therapist, voucher["id"], **order)
        assert refused.status_code == 422
        assert refused.json()["errors"][0]["field"] == "reason"
    missed = await redeem(client, people.therapist, voucher["id"], kind="backup", reason="missed")
    assert (missed.json()["code"], missed.json()["reason"]) == (backup[0], "missed")
    late = await redeem(
        client, people.therapist, voucher["id"], code=backup[1], reason="late_cancelled"
    )
    assert (late.json()["backup_sessions_left"], late.json()["regular_sessions_left"]) == (0, 10)
    none = await redeem(client, people.therapist, voucher["id"], kind="backup", reason="missed")
    assert (none.status_code, none.json()["code"]) == (409, "voucher_exhausted")
    assert (await database.events())[-1]["data"]["new_values"]["reason"] == "late_cancelled"


@pytest.mark.parametrize(
    ("order", "status", "code"),
    [
        ({"code": "AAAAAAAA"}, 404, "code_not_found"),
        ({"code": ""}, 422, "invalid_request"),
        ({"code": "x" * 51}, 422, "invalid_request"),
        ({"kind": "spare"}, 422, "invalid_request"),
        ({"session_date": "tomorrow"}, 422, "invalid_request"),
        ({"sessions": 2}, 422, "invalid_request"),
        ({"note": "a\x00b"}, 422, "invalid_request"),
    ],
)
async def test_bad_redemptions(
    client: httpx.AsyncClient, people: People, order: dict[str, Any], status: int, code: str
) -> None:
    voucher = await new_voucher(client, people)
    answer = await redeem(client, people.therapist, voucher["id"], **order)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_a_session_cannot_be_redeemed_before_its_day(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    """The day is the organization's: Kiritimati is always at least one day ahead of UTC-12."""
    voucher = await sold_earlier(database, await new_voucher(client, people), 5)
    ahead, behind = "Pacific/Kiritimati", "Etc/GMT+12"
    today = day_in(ahead, now())

    async def answer(zone: str, day: date) -> httpx.Response:
        async with database.admin() as connection:
            await connection.execute(
                "UPDATE organization_copies SET timezone = $1 WHERE id = $2", zone, ORGANIZATION
            )
        order = {"session_date": day.isoformat()}
        return await redeem(client, people.therapist, voucher["id"], **order)

    for zone, day in (
        (behind, today),
        (ahead, today + timedelta(days=2)),
        (ahead, today + timedelta(days=300)),
    ):
        refused = await answer(zone, day)
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")
        assert refused.json()["errors"][0]["field"] == "session_date"
    shown = await client.get(f"/api/vouchers/{voucher['id']}", headers=people.client)
    assert shown.json()["used_sessions"] == 0
    assert (await answer(ahead, today)).status_code == 201
    assert (await answer(behind, today - timedelta(days=2))).status_code == 201


async def test_a_code_of_another_voucher_or_kind_is_refused(
    client: httpx.AsyncClient, people: People
) -> None:
    one, two = await new_voucher(client, people), await new_voucher(client, people)
    foreign = await redeem(client, people.therapist, one["id"], code=two["codes"][0]["code"])
    assert (foreign.status_code, foreign.json()["code"]) == (404, "code_not_found")
    code = _codes(one, backup=False)[0]
    wrong = await redeem(
        client, people.therapist, one["id"], code=code, kind="backup", reason="missed"
    )
    assert wrong.json()["errors"][0]["field"] == "kind"


async def test_who_redeems(client: httpx.AsyncClient, people: People) -> None:
    voucher = await new_voucher(client, people)
    refusals = {"anonymous": 401, "client": 403, "staff": 403}
    allowed = {"admin", "owner", "manager", "therapist"}
    for name, headers in people.all().items():
        answer = await redeem(client, headers, voucher["id"])
        expected = 201 if name in allowed else refusals.get(name, 404)
        assert answer.status_code == expected, (name, answer.text)


async def test_who_takes_back(client: httpx.AsyncClient, people: People) -> None:
    voucher = await new_voucher(client, people)
    refusals = {"anonymous": 401, "client": 403, "staff": 403, "therapist": 403}
    for name, headers in people.all().items():
        spent = (await redeem(client, people.therapist, voucher["id"])).json()
        answer = await _reverse(client, headers, spent)
        expected = 201 if name in {"admin", "owner", "manager"} else refusals.get(name, 404)
        assert answer.status_code == expected, (name, answer.text)
        if expected != 201:
            await _reverse(client, people.owner, spent)


async def test_the_last_session_completes_and_its_reversal_reopens(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    voucher = await new_voucher(client, people, total_sessions=2)
    await redeem(client, people.therapist, voucher["id"])
    last = (await redeem(client, people.therapist, voucher["id"])).json()
    assert (last["regular_sessions_left"], last["voucher_status"]) == (0, "completed")
    over = await redeem(client, people.therapist, voucher["id"])
    assert (over.status_code, over.json()["code"]) == (409, "voucher_exhausted")
    spare = await redeem(client, people.therapist, voucher["id"], kind="backup", reason="missed")
    assert (spare.status_code, spare.json()["code"]) == (409, "voucher_exhausted")
    assert "completed" in spare.json()["detail"], "two backup sessions are left, of no use"
    back = await _reverse(client, people.owner, last, note="Wrong client")
    assert (back.json()["reversal_of"], back.json()["voucher_status"]) == (last["id"], "active")
    assert back.json()["regular_sessions_left"] == 1
    twice = await _reverse(client, people.owner, last)
    assert (twice.status_code, twice.json()["code"]) == (409, "redemption_already_reversed")
    of_reversal = await _reverse(client, people.owner, back.json())
    assert of_reversal.status_code == 409
    again = await redeem(client, people.therapist, voucher["id"], code=last["code"])
    assert (again.status_code, again.json()["voucher_status"]) == (201, "completed")
    types = [event["type"].removeprefix("vouchers.") for event in await database.events()][3:]
    assert types == [
        "redemption.created.v1",
        "redemption.created.v1",
        "voucher.completed.v1",
        "redemption.reversed.v1",
        "voucher.reopened.v1",
        "redemption.created.v1",
        "voucher.completed.v1",
    ]


async def test_each_state_refuses_in_its_own_words(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    kind = await new_type(client, people.owner)
    unpaid = (await buy(client, people.client, kind["id"], payment_token="pm_3ds")).json()
    answer = await redeem(client, people.therapist, unpaid["id"])
    assert (answer.status_code, answer.json()["code"]) == (409, "voucher_unpaid")
    voucher = await sold_earlier(database, await new_voucher(client, people), 90)
    first, last = (date.fromisoformat(voucher[name]) for name in ("valid_from", "valid_until"))
    for day, code in (
        (first - timedelta(days=1), "voucher_not_yet_valid"),
        (last + timedelta(days=1), "voucher_expired"),
    ):
        order = {"session_date": day.isoformat()}
        answer = await redeem(client, people.therapist, voucher["id"], **order)
        assert (answer.status_code, answer.json()["code"]) == (409, code)
        edge = first if code == "voucher_not_yet_valid" else last
        assert edge.isoformat() in answer.json()["detail"]
    for day in (first, last):
        order = {"session_date": day.isoformat()}
        assert (await redeem(client, people.therapist, voucher["id"], **order)).status_code == 201
    async with database.admin() as connection:
        await connection.execute("UPDATE vouchers SET status = 'expired' WHERE status = 'active'")
    answer = await redeem(client, people.therapist, voucher["id"])
    assert (answer.status_code, answer.json()["code"]) == (409, "voucher_expired")
    cancelled = await new_voucher(client, people)
    await client.post(f"/api/vouchers/{cancelled['id']}/cancel", headers=people.owner)
    answer = await redeem(client, people.therapist, cancelled["id"])
    assert (answer.status_code, answer.json()["code"]) == (409, "voucher_cancelled")


async def test_a_voucher_of_version_1_without_codes_can_be_used(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    voucher = await new_voucher(client, people)
    async with database.admin() as connection:
        await connection.execute("DELETE FROM voucher_codes")
        await connection.execute(
            "INSERT INTO voucher_codes (organization_id, voucher_id, code, is_backup, is_used,"
            " created_at) VALUES (7, $1, 'VK-2024-001-04', false, false, now())",
            voucher["id"],
        )
    old = await redeem(client, people.therapist, voucher["id"], code="VK-2024-001-04")
    assert (old.status_code, old.json()["code"]) == (201, "VK-2024-001-04")
    without = await redeem(client, people.therapist, voucher["id"])
    assert (without.status_code, without.json()["code"]) == (201, None)
    assert (await _reverse(client, people.owner, without.json())).status_code == 201


async def test_one_key_spends_one_session(client: httpx.AsyncClient, people: People) -> None:
    voucher = await new_voucher(client, people)
    headers = {**people.therapist, "Idempotency-Key": "spend-once"}
    first = await redeem(client, headers, voucher["id"])
    again = await redeem(client, headers, voucher["id"])
    assert again.json() == first.json()
    for spelled in (f"0{voucher['id']}", f"%20{voucher['id']}", f"+{voucher['id']}"):
        path = f"/api/vouchers/{spelled}/redemptions"
        assert (await client.post(path, json={}, headers=headers)).status_code == 422
    shown = await client.get(f"/api/vouchers/{voucher['id']}", headers=people.client)
    assert shown.json()["used_sessions"] == 1


def _en_dashes(code: str) -> str:
    return code.replace("-", "\u2013")


def _full_width(code: str) -> str:
    return "".join(chr(ord(char) + 0xFEE0) for char in code)


def _zero_width(code: str) -> str:
    return "\u200b".join(code)


def _grouped(separator: str) -> Callable[[str], str]:
    def written(code: str) -> str:
        groups = code.split("-") if "-" in code else (code[:4], code[4:])
        return separator.join(groups)

    return written


WRITINGS: dict[str, Callable[[str], str]] = {
    "small letters": str.lower,
    "full width": _full_width,
    "zero-width characters": _zero_width,
    "en dashes": _en_dashes,
    "no-break space": _grouped("\u00a0"),
    "en dash": _grouped("\u2013"),
    "non-breaking hyphen": _grouped("\u2011"),
    "soft hyphen": lambda code: f"{code[:4]}\u00ad{code[4:]}",
    "spaces around": lambda code: f"\u3000{code} \ufeff",
}


@pytest.mark.parametrize("writing", WRITINGS)
async def test_a_code_is_recognized_however_it_is_written(
    client: httpx.AsyncClient, people: People, database: Database, writing: str
) -> None:
    voucher = await new_voucher(client, people)
    written, old = WRITINGS[writing], "VK-2024-001-04"
    async with database.admin() as connection:
        await connection.execute(
            "INSERT INTO voucher_codes (organization_id, voucher_id, code, is_backup, is_used,"
            " created_at) VALUES (7, $1, $2, false, false, now())",
            voucher["id"],
            old,
        )
    for code in (_codes(voucher, backup=False)[0], old):
        params = {"code": written(code)}
        path = f"/api/organizations/{ORGANIZATION}/vouchers"
        listed = await client.get(path, headers=people.owner, params=params)
        assert [row["id"] for row in listed.json()] == [voucher["id"]], listed.text
        spent = await redeem(client, people.therapist, voucher["id"], code=written(code))
        assert (spent.status_code, spent.json()["code"]) == (201, code), spent.text


async def test_codes_of_version_1_that_differ_in_case(
    client: httpx.AsyncClient, people: People, database: Database
) -> None:
    voucher = await new_voucher(client, people)
    async with database.admin() as connection:
        for code in ("Vk-1", "vk-1", "Été\u00a07"):
            await connection.execute(
                "INSERT INTO voucher_codes (organization_id, voucher_id, code, is_backup, is_used,"
                " created_at) VALUES (7, $1, $2, false, false, now())",
                voucher["id"],
                code,
            )
    for typed, code in (("vk-1", "vk-1"), ("Vk\u20111", "Vk-1"), ("ÉTÉ 7", "Été\u00a07")):
        spent = await redeem(client, people.therapist, voucher["id"], code=typed)
        assert (spent.status_code, spent.json()["code"]) == (201, code), spent.text
