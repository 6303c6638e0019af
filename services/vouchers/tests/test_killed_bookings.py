"""A process that is killed at any point of a booking: the repetition books once, and nothing else.

Each request has an Idempotency-Key and is sent again by the client, who has got no answer.
"""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from pydantic import SecretStr

from services.vouchers.tests.practice import THERAPIST, Practice, at, day_of
from shared.testing import Database, Tokens

pytestmark = pytest.mark.anyio

COMMIT = ("transaction.before_commit", "transaction.committed", "request.before_answer")


class Call(NamedTuple):
    """A request of a client: its path and its body."""

    path: str
    body: dict[str, Any]


async def _booking(practice: Practice) -> Call:
    voucher = await practice.voucher()
    body = {"starts_at": at(3).isoformat(), "therapist_id": THERAPIST}
    return Call(f"/api/vouchers/{voucher['id']}/reservations", body)


async def _series(practice: Practice) -> Call:
    voucher = await practice.voucher(validity_days=90)
    body = {
        "weekdays": [day_of(3).isoweekday()],
        "start_time": "10:00",
        "first_date": str(day_of(3)),
        "count": 3,
        "therapist_id": THERAPIST,
    }
    return Call(f"/api/vouchers/{voucher['id']}/reservations/series", body)


async def _reserved(practice: Practice, **choice: Any) -> dict[str, Any]:
    voucher = await practice.voucher()
    return await practice.booked(voucher["id"], starts_at=at(3), therapist_id=THERAPIST, **choice)


async def _cancellation(practice: Practice) -> Call:
    return Call(f"/api/reservations/{(await _reserved(practice))['id']}/cancel", {})


async def _confirmation(practice: Practice) -> Call:
    return Call(f"/api/reservations/{(await _reserved(practice, hold=True))['id']}/confirm", {})


async def _move(practice: Practice) -> Call:
    body = {"starts_at": at(4).isoformat(), "therapist_id": THERAPIST}
    return Call(f"/api/reservations/{(await _reserved(practice))['id']}/reschedule", body)


Prepare = Callable[[Practice], Awaitable[Call]]
KILLS: list[tuple[str, Prepare]] = [
    *((point, _booking) for point in ("reservation.locked", "reservation.written", *COMMIT)),
    *((point, _series) for point in ("series.locked", "series.written", *COMMIT[1:])),
    *((point, _cancellation) for point in ("cancellation.locked", "cancellation.written")),
    *((point, _cancellation) for point in COMMIT[1:]),
    *((point, _confirmation) for point in ("confirmation.locked", "confirmation.written")),
    *((point, _confirmation) for point in COMMIT[1:]),
    *((point, _move) for point in COMMIT),
]
AFTERWARDS: dict[Prepare, tuple[list[str], int, list[str]]] = {
    _booking: (["booked"], 1, ["session.created", "reservation.booked"]),
    _series: (["booked"] * 3, 3, ["session.created", "reservation.booked"] * 3),
    _cancellation: (["cancelled"], 0, ["reservation.cancelled", "session.cancelled"]),
    _confirmation: (["booked"], 1, ["reservation.confirmed"]),
    _move: (["booked"], 1, ["session.created", "reservation.rescheduled", "session.cancelled"]),
}
"""The states of the reservations, the number of occupations, and the events of the request."""


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.get_secret_value() if isinstance(value, SecretStr) else value
        for name, value in settings.items()
    }


async def _send_until_killed(
    call: Call, headers: dict[str, str], settings: dict[str, Any], point: str, log: Path
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.vouchers.tests.killed_request"),
        stdin=asyncio.subprocess.PIPE,
        env=os.environ | {"FAILPOINT": f"{point}:1", "FAILPOINTS_LOG": str(log)},
    )
    task = {"settings": settings, "headers": headers, **call._asdict()}
    await process.communicate(json.dumps(task).encode())
    points = await asyncio.to_thread(log.read_text)
    assert (process.returncode, f"killed {point}" in points) == (-9, True)


@pytest.mark.parametrize(
    ("point", "prepare"),
    KILLS,
    ids=[f"{prepare.__name__.strip('_')} {point}" for point, prepare in KILLS],
)
async def test_what_was_interrupted_happens_once(
    practice: Practice,
    database: Database,
    tokens: Tokens,
    tmp_path: Path,
    point: str,
    prepare: Prepare,
) -> None:
    await practice.add_therapist()
    call = await prepare(practice)
    before = len(await database.events())
    headers = {**practice.people.client, "Idempotency-Key": "interrupted"}
    settings = _plain(
        {
            "database_url": database.url,
            "rabbitmq_url": "amqp://unused",
            "payments_url": "http://payments",
            "organizations_url": "http://organizations",
            "identity_url": "http://identity",
            **tokens.settings("vouchers"),
        }
    )
    await _send_until_killed(call, headers, settings, point, tmp_path / "points")
    answer = await practice.client.post(call.path, json=call.body, headers=headers)
    assert answer.is_success, answer.text
    again = await practice.client.post(call.path, json=call.body, headers=headers)
    assert (again.status_code, again.json()) == (answer.status_code, answer.json())
    states, occupations, events = AFTERWARDS[prepare]
    rows = await database.rows("SELECT status FROM reservations ORDER BY id")
    assert [row["status"] for row in rows] == states
    assert len(await database.rows("SELECT 1 FROM occupations")) == occupations
    types = [event["type"] for event in (await database.events())[before:]]
    assert types == [f"vouchers.{name}.v1" for name in events]
    await practice.require_sums()
