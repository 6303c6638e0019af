"""The stores of seals overwrite nothing, log no credentials, and use little memory."""

import json
import tracemalloc
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from pydantic import ValidationError

from services.audit.app import create_app
from services.audit.errors import SealsUnreachable
from services.audit.evidence.seal_stores import Overtaken, store_at
from services.audit.evidence.sealed_heads import Evidence, Seal, digest
from services.audit.service.seals import Sealer, SealReader, SealSigner, seal_heads
from services.audit.settings import Settings
from services.audit.tests.conftest import SECRET, deliver, event
from services.audit.tests.test_endpoints import ADMIN
from services.audit.tests.test_seals import lines_of
from services.audit.tests.test_verify_command import verify
from shared.db import now
from shared.testing import Tokens, client_of
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio

ANYWHERE = pytest.mark.parametrize("seals", ["folder", "bucket"], indirect=True)
BUCKET = pytest.mark.parametrize("seals", ["bucket"], indirect=True)


def unsigned(number: int, after: str, heads: dict[int, tuple[int, str]]) -> tuple[Seal, str]:
    """Return a seal and its line with no signature worth the name."""
    seal = Seal(number=number, sealed_at=now(), previous=digest(after), heads=heads)
    parts = (json.dumps({"alg": "ES256"}).encode(), seal.model_dump_json().encode(), b"none")
    return seal, ".".join(urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


@ANYWHERE
async def test_the_place_of_a_seal_is_given_once(settings: Settings) -> None:
    store = store_at(settings.seals)
    first, line = unsigned(1, "", {7: (1, "00")})
    await store.add(first, line, "")
    other, another = unsigned(1, "", {7: (2, "11")})
    with pytest.raises(Overtaken):
        await store.add(other, another, "")
    assert await lines_of(settings) == [line]
    second, next_line = unsigned(2, line, {7: (2, "11")})
    await store.add(second, next_line, line)
    assert await lines_of(settings) == [line, next_line]


@ANYWHERE
async def test_only_what_is_new_is_read_again(settings: Settings) -> None:
    store = store_at(settings.seals)
    lines = [""]
    seals = []
    for number in range(1, 251):
        seal, line = unsigned(number, lines[-1], {7: (number, "00")})
        await store.add(seal, line, lines[-1])
        seals.append(seal)
        lines.append(line)
    evidence = Evidence()
    reader = SealReader(store, settings.internal_jwks)
    await reader.read_on(evidence)
    assert list(evidence.of(7)) == list(range(1, 251))
    later = [line async for page in store.read(seals[-1]) for line in page]
    assert later == ([] if settings.seals and settings.seals.startswith("s3:") else lines[1:])
    seal, line = unsigned(251, lines[-1], {7: (251, "00")})
    await store.add(seal, line, lines[-1])
    evidence.fault = None
    await reader.read_on(evidence)
    assert evidence.of(7).newest == 251


async def test_sealing_goes_on_behind_a_line_that_was_cut_short(
    transactions: Transactions, sealer: Sealer, settings: Settings
) -> None:
    await deliver(transactions, event())
    await seal_heads(transactions, sealer, now())
    _cut_a_line_short(Path(settings.seals or ""))
    await deliver(transactions, event())
    await seal_heads(transactions, sealer, now() + timedelta(minutes=2))
    evidence = await SealReader(store_at(settings.seals), settings.internal_jwks).evidence()
    assert (evidence.fault, list(evidence.of(7))) == (None, [1, 2])


def _cut_a_line_short(folder: Path) -> None:
    [path] = folder.glob("*.jws")
    path.write_text(f"{path.read_text()}\n{path.read_text().strip()[:99]}")


@BUCKET
async def test_who_takes_the_place_of_the_next_seal_is_noticed(
    transactions: Transactions, sealer: Sealer, settings: Settings, object_store: str
) -> None:
    await deliver(transactions, event())
    await seal_heads(transactions, sealer, now())
    place = (settings.seals or "").removeprefix("s3://")
    async with httpx.AsyncClient(base_url=object_store) as stranger:
        await stranger.put(f"/{place}/seal-000000000002.jws", content=b"nothing of ours")
    await deliver(transactions, event())
    with pytest.raises(Overtaken, match="seal 2 is taken"):
        await seal_heads(transactions, sealer, now() + timedelta(minutes=2))


@BUCKET
async def test_a_place_that_does_not_answer_is_reported_and_nothing_else(
    settings: Settings,
    tokens: Tokens,
    transactions: Transactions,
    capfd: pytest.CaptureFixture[str],
) -> None:
    gone = settings.model_copy(update={"seals": "s3://of-nobody/seals"})
    with pytest.raises(SealsUnreachable):
        await SealReader(store_at(gone.seals), gone.internal_jwks).evidence()
    store = store_at(gone.seals)
    signer = SealSigner(gone.internal_key.get_secret_value())
    await deliver(transactions, event())
    with pytest.raises(SealsUnreachable):
        sealer = Sealer(store, SealReader(store, gone.internal_jwks), signer)
        await seal_heads(transactions, sealer, now())
    assert (await verify(gone))[0] == 2
    async with client_of(create_app(gone)) as client:
        answer = await client.get(f"{ADMIN}/verify", headers=tokens.bearer(1, "admin"))
    assert answer.status_code == 503
    assert "of-nobody" not in answer.text
    told = "".join(capfd.readouterr())
    assert "of-nobody" in told
    assert SECRET not in told


@BUCKET
async def test_the_command_reads_a_bucket(
    transactions: Transactions, sealer: Sealer, settings: Settings
) -> None:
    await deliver(transactions, event(), event())
    await seal_heads(transactions, sealer, now())
    assert await verify(settings) == (0, "7: 2 rows as they were written, sealed to 2\n")


@pytest.mark.parametrize(
    "place",
    ["ftp://seals/x", "s3:", "s3://", f"s3://key:{SECRET}@seals/x", "file://host/x"],
)
async def test_a_place_that_is_none_is_refused_at_the_start(settings: Settings, place: str) -> None:
    values = settings.model_dump() | {"seals": place}
    with pytest.raises(ValidationError) as refused:
        Settings.model_validate(values)
    assert "seals" in str(refused.value)
    assert SECRET not in str(refused.value)


async def test_a_file_address_is_its_folder(tmp_path: Path) -> None:
    seal, line = unsigned(1, "", {7: (1, "00")})
    await store_at((tmp_path / "a place").as_uri()).add(seal, line, "")
    assert [*(tmp_path / "a place").glob("*.jws")]


async def test_many_seals_are_read_in_little_memory(tmp_path: Path, tokens: Tokens) -> None:
    lines: Sequence[str] = _many(3000)
    (tmp_path / "seals-2026-01.jws").write_text("\n".join(lines))
    size = sum(map(len, lines))
    assert size > 5_000_000
    reader = SealReader(store_at(str(tmp_path)), tokens.settings("audit")["internal_jwks"])
    del lines
    tracemalloc.start()
    try:
        evidence = await reader.evidence()
        held = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert evidence.newest is not None
    assert (evidence.newest.number, len(evidence.of(7))) == (3000, 3000)
    assert held < size / 4


def _many(number: int) -> list[str]:
    lines = [""]
    for n in range(1, number + 1):
        heads = {chain: (n, digest(f"{chain} {n}")) for chain in range(7, 27)}
        lines.append(unsigned(n, lines[-1], heads)[1])
    return lines[1:]
