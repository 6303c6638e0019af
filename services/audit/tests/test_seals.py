"""Seals: often enough, signed, each vouching for the ones before."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from services.audit.evidence.seal_stores import store_at
from services.audit.service.seals import Sealer, SealReader, SealSigner, seal_heads
from services.audit.settings import Settings
from services.audit.tests.conftest import deliver, event
from shared.db import now
from shared.testing import Tokens
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio


ANYWHERE = pytest.mark.parametrize("seals", ["folder", "bucket"], indirect=True)


async def lines_of(settings: Settings) -> list[str]:
    return [line async for lines in store_at(settings.seals).read(None) for line in lines]


@ANYWHERE
async def test_a_seal_comes_each_minute_or_after_a_thousand_rows(
    transactions: Transactions, sealer: Sealer, settings: Settings
) -> None:
    moment = now()
    await seal_heads(transactions, sealer, moment)
    assert await lines_of(settings) == []
    await deliver(transactions, event())
    for seconds, rows, expected in ((0, 0, 1), (30, 1, 1), (59, 1, 1), (61, 0, 2), (70, 999, 2)):
        if rows:
            await deliver(transactions, *(event() for _ in range(rows)))
        await seal_heads(transactions, sealer, moment + timedelta(seconds=seconds))
        assert len(await lines_of(settings)) == expected, seconds
    await deliver(transactions, event())
    await seal_heads(transactions, sealer, moment + timedelta(seconds=71))
    assert len(await lines_of(settings)) == 3
    await seal_heads(transactions, sealer, moment + timedelta(days=40))
    assert len(await lines_of(settings)) == 3, "nothing moved, so there is nothing to say"


@ANYWHERE
async def test_another_worker_goes_on_with_the_same_chain_of_seals(
    transactions: Transactions, sealer: Sealer, settings: Settings
) -> None:
    moment = now()
    for number in range(4):
        await deliver(transactions, event(), event(organization_id=8))
        store = store_at(settings.seals)
        signer = SealSigner(settings.internal_key.get_secret_value())
        other = Sealer(store, SealReader(store, settings.internal_jwks), signer)
        turn = sealer if number % 2 else other
        await seal_heads(transactions, turn, moment + timedelta(days=20 * number))
    reader = SealReader(store_at(settings.seals), settings.internal_jwks)
    evidence = await reader.evidence()
    assert evidence.fault is None
    assert evidence.newest is not None
    assert evidence.newest.number == 4
    assert list(evidence.of(7)) == [1, 2, 3, 4]


@pytest.mark.parametrize("way", ["altered", "removed", "foreign key", "cut short"])
async def test_seals_that_were_tampered_with_are_not_believed(
    transactions: Transactions, sealer: Sealer, settings: Settings, tokens: Tokens, way: str
) -> None:
    assert settings.seals is not None
    folder = Path(settings.seals)
    for number in range(3):
        await deliver(transactions, event())
        await seal_heads(transactions, sealer, now() + timedelta(minutes=2 * number))
    lines = await lines_of(settings)
    if way == "altered":
        head, _, signature = lines[1].split(".")
        lines[1] = f"{head}.{lines[0].split('.')[1]}.{signature}"
    elif way == "removed":
        del lines[1]
    elif way == "foreign key":
        await deliver(transactions, event())
        key = tokens.service_keys["vouchers"].as_dict(private=True)
        store = store_at(settings.seals)
        stranger = SealSigner(json.dumps({**key, "kid": "audit"}))
        forger = Sealer(store, SealReader(store, settings.internal_jwks), stranger)
        await seal_heads(transactions, forger, now() + timedelta(hours=1))
        lines = await lines_of(settings)
    else:
        lines.append(lines[-1][:50])
    _replace(folder, lines)
    reader = SealReader(store_at(settings.seals), settings.internal_jwks)
    evidence = await reader.evidence()
    # A line that a crash cut short is no reason to disbelieve the others.
    assert (evidence.fault is None) is (way == "cut short")
    assert evidence.of(7)[1]


def _replace(folder: Path, lines: list[str]) -> None:
    for path in folder.glob("*.jws"):
        path.unlink()
    (folder / "seals-2026-01.jws").write_text("\n".join(lines))
