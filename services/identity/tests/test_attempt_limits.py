"""Throttling of sign-ins: guessing is slow, and others' guesses lock no user out."""

import asyncio

import anyio
import bcrypt
import httpx
import pytest

from services.identity.app import create_app
from services.identity.errors import PasswordQueueFull
from services.identity.security.passwords import Passwords
from services.identity.service import attempt_limits
from services.identity.service.attempt_limits import (
    PER_ACCOUNT,
    PER_ACCOUNT_AND_ADDRESS,
    PER_ADDRESS,
    PER_KNOWN_DEVICE,
    Counter,
)
from services.identity.service.refusal_delay import MAX_UNITS
from services.identity.settings import Settings
from services.identity.tests.conftest import PASSWORD, Organizations, People, Person
from services.identity.tests.test_passwords import busy
from shared.testing import Database, client_of, until
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio


async def sign_in(
    client: httpx.AsyncClient, email: str, password: str, address: str
) -> httpx.Response:
    client.cookies.clear()
    return await client.post(
        "/api/auth/login",
        json={"email": email, "password": password},
        headers={"X-Client-Address": address},
    )


async def _exhaust(transactions: Transactions, counters: list[Counter], count: int) -> None:
    """Count attempts as `count` requests would have, without their argon2."""
    for _ in range(count):
        async with transactions.system() as session:
            await attempt_limits.count_attempt(session, counters)


@pytest.mark.parametrize("known", [True, False])
async def test_guessing_ends_for_known_and_unknown_accounts_alike(
    client: httpx.AsyncClient, people: People, database: Database, known: bool
) -> None:
    person = await people.add("client")
    email = person.email if known else "nobody@example.org"
    for _ in range(PER_ACCOUNT_AND_ADDRESS):
        assert (await sign_in(client, email, "wrong", "203.0.113.9")).status_code == 401
    answer = await sign_in(client, email, PASSWORD, "203.0.113.9")
    assert (answer.status_code, answer.json()["code"]) == (429, "too_many_attempts")
    assert 0 < int(answer.headers["retry-after"]) <= 900
    assert len(await database.events()) == PER_ACCOUNT_AND_ADDRESS, "a 429 is no failed sign-in"


async def test_many_at_once_do_not_slip_through(client: httpx.AsyncClient, people: People) -> None:
    person = await people.add("client")
    statuses: list[int] = []

    async def one() -> None:
        answer = await sign_in(client, person.email, "wrong", "203.0.113.9")
        statuses.append(answer.status_code)

    async with anyio.create_task_group() as group:
        for _ in range(2 * PER_ACCOUNT_AND_ADDRESS):
            group.start_soon(one)
    assert statuses.count(401) == PER_ACCOUNT_AND_ADDRESS
    assert statuses.count(429) == PER_ACCOUNT_AND_ADDRESS


async def test_success_is_not_counted(client: httpx.AsyncClient, people: People) -> None:
    person = await people.add("client")
    for _ in range(PER_KNOWN_DEVICE + 5):
        assert (await sign_in(client, person.email, PASSWORD, "203.0.113.9")).status_code == 200


async def test_a_window_ends(
    client: httpx.AsyncClient, people: People, transactions: Transactions, database: Database
) -> None:
    person = await people.add("client")
    counters = attempt_limits.unknown_client_counters(f"user {person.id}", "203.0.113.9")
    await _exhaust(transactions, counters, PER_ACCOUNT_AND_ADDRESS)
    assert (await sign_in(client, person.email, PASSWORD, "203.0.113.9")).status_code == 429
    async with database.admin() as admin:
        await admin.execute("UPDATE attempt_counts SET ends_at = now()")
    assert (await sign_in(client, person.email, PASSWORD, "203.0.113.9")).status_code == 200
    async with transactions.system() as session:
        await attempt_limits.delete_expired(session)


async def test_one_address_cannot_try_every_account(
    client: httpx.AsyncClient, people: People, transactions: Transactions
) -> None:
    person = await people.add("client")
    for number in range(PER_ADDRESS):
        counters = attempt_limits.unknown_client_counters(
            f"address {number}@example.org", "203.0.113.9"
        )
        await _exhaust(transactions, counters, 1)
    assert (await sign_in(client, person.email, PASSWORD, "203.0.113.9")).status_code == 429
    assert (await sign_in(client, person.email, PASSWORD, "203.0.113.10")).status_code == 200


async def test_an_attacked_owner_still_gets_in(
    client: httpx.AsyncClient, owner: Person, transactions: Transactions
) -> None:
    home = "198.51.100.7"
    assert (await sign_in(client, owner.email, PASSWORD, home)).status_code == 200
    for number in range(PER_ACCOUNT):
        counters = attempt_limits.unknown_client_counters(f"user {owner.id}", f"203.0.113.{number}")
        await _exhaust(transactions, counters, 1)
    assert (await sign_in(client, owner.email, PASSWORD, "192.0.2.1")).status_code == 429
    assert (await sign_in(client, owner.email, PASSWORD, home)).status_code == 200


async def test_a_known_device_gets_in_from_the_attackers_address(
    client: httpx.AsyncClient, owner: Person, transactions: Transactions
) -> None:
    address = "203.0.113.9"
    signed_in = await sign_in(client, owner.email, PASSWORD, address)
    cookie = signed_in.cookies["carnet_device"]
    await _exhaust(
        transactions,
        attempt_limits.known_network_counters(f"user {owner.id}", None, address),
        PER_KNOWN_DEVICE,
    )
    await _exhaust(
        transactions,
        attempt_limits.unknown_client_counters(f"user {owner.id}", address),
        PER_ACCOUNT_AND_ADDRESS,
    )
    assert (await sign_in(client, owner.email, PASSWORD, address)).status_code == 429
    headers = {"X-Client-Address": address, "Cookie": f"carnet_device={cookie}"}
    answer = await client.post("/api/auth/login", json=owner.credentials, headers=headers)
    assert answer.status_code == 200


@pytest.mark.parametrize("forgery", ["", "x", "A" * 38, "żółć", "AAAA====", "=" * 3])
async def test_a_forged_device_is_no_device(
    client: httpx.AsyncClient, people: People, transactions: Transactions, forgery: str
) -> None:
    mine, theirs = await people.add("client"), await people.add("client")
    signed_in = await sign_in(client, theirs.email, PASSWORD, "192.0.2.1")
    await _exhaust(
        transactions,
        attempt_limits.unknown_client_counters(f"user {mine.id}", "203.0.113.9"),
        PER_ACCOUNT_AND_ADDRESS,
    )
    for cookie in (forgery, signed_in.cookies["carnet_device"]):
        client.cookies.clear()
        headers = [
            (b"x-client-address", b"203.0.113.9"),
            (b"cookie", f"carnet_device={cookie}".encode()),
        ]
        answer = await client.post("/api/auth/login", json=mine.credentials, headers=headers)
        assert answer.status_code == 429


async def test_a_full_queue_is_reported_and_counts_as_no_attempt(
    settings: Settings, people: People, database: Database
) -> None:
    person = await people.add("client")
    app = create_app(settings.model_copy(update={"password_queue": 4}))
    statuses: list[int] = []

    async def one() -> None:
        answer = await sign_in(client, person.email, PASSWORD, "203.0.113.9")
        statuses.append(answer.status_code)
        if answer.status_code == 503:
            assert answer.headers["retry-after"] == "1"

    async with client_of(app) as client:
        with busy(app.state.resources.passwords) as free:
            async with anyio.create_task_group() as group:
                for _ in range(PER_ACCOUNT_AND_ADDRESS):
                    group.start_soon(one)
                await until(lambda: len(statuses) == PER_ACCOUNT_AND_ADDRESS - 2)
                free()
    assert statuses == [503] * (PER_ACCOUNT_AND_ADDRESS - 2) + [200] * 2
    counts = await database.rows("SELECT count FROM attempt_counts")
    assert {row["count"] for row in counts} == {0}


async def _take_the_place_that_is_given_back(passwords: Passwords) -> None:
    """Wait until another user's password is hashed, and be the next in the queue."""
    async with asyncio.timeout(30):
        while _has_place(passwords):
            await asyncio.sleep(0)
        while not _has_place(passwords):
            await asyncio.sleep(0)
        await passwords.hash("somebody else's")


def _has_place(passwords: Passwords) -> bool:
    try:
        passwords.require_place()
    except PasswordQueueFull:
        return False
    return True


async def _counts(database: Database) -> set[int]:
    return {row["count"] for row in await database.rows("SELECT count FROM attempt_counts")}


async def test_a_full_queue_only_puts_off_the_renewal_of_a_hash(
    settings: Settings, people: People, database: Database
) -> None:
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    person = await people.add("client", password_hash=hashed)
    app = create_app(settings.model_copy(update={"password_queue": 1}))
    passwords = app.state.resources.passwords
    async with client_of(app) as client:
        other = asyncio.ensure_future(_take_the_place_that_is_given_back(passwords))
        answer = await client.post("/api/auth/login", json=person.credentials)
        await other
        assert answer.status_code == 200
        [user] = await database.rows("SELECT password_hash FROM users")
        assert user["password_hash"] == hashed
        assert (await client.post("/api/auth/login", json=person.credentials)).status_code == 200
    [user] = await database.rows("SELECT password_hash FROM users")
    assert user["password_hash"].startswith("$argon2id$")
    assert await _counts(database) == {0}


async def test_what_is_not_the_users_fault_is_not_held_against_the_account(
    client: httpx.AsyncClient, owner: Person, organizations: Organizations, database: Database
) -> None:
    organizations.is_down = True
    assert (await client.post("/api/auth/login", json=owner.credentials)).status_code == 503
    assert await _counts(database) == {0}


async def test_a_full_queue_is_not_held_against_who_changes_a_password(
    settings: Settings, people: People, database: Database
) -> None:
    person = await people.add("client")
    app = create_app(settings.model_copy(update={"password_queue": 1}))
    passwords = app.state.resources.passwords
    body = {"current_password": PASSWORD, "new_password": "another good one"}
    async with client_of(app) as client:
        signed_in = (await client.post("/api/auth/login", json=person.credentials)).json()
        headers = {"Authorization": f"Bearer {signed_in['access_token']}"}
        other = asyncio.ensure_future(_take_the_place_that_is_given_back(passwords))
        answer = await client.put("/api/auth/password", json=body, headers=headers)
        await other
    assert answer.status_code == 503
    assert await _counts(database) == {0}


async def test_ones_own_password_cannot_be_guessed_with_a_stolen_token(
    client: httpx.AsyncClient, owner: Person
) -> None:
    body = {"current_password": "wrong", "new_password": "another good one"}
    statuses = [
        (await client.put("/api/auth/password", json=body, headers=owner.headers)).status_code
        for _ in range(attempt_limits.PER_USER_PASSWORD_CHANGE + 1)
    ]
    assert statuses == [403] * attempt_limits.PER_USER_PASSWORD_CHANGE + [429]


async def test_refusals_take_a_whole_number_of_units(settings: Settings, owner: Person) -> None:
    app = create_app(settings.model_copy(update={"failed_sign_in_seconds": 0.3}))
    async with client_of(app) as client:
        for email in (owner.email, "nobody@example.org"):
            started = anyio.current_time()
            assert (await sign_in(client, email, "wrong", "203.0.113.9")).status_code == 401
            elapsed = anyio.current_time() - started
            assert elapsed >= 0.3


async def test_a_slow_hash_slows_the_refusals_of_unknown_accounts_too(
    settings: Settings, people: People
) -> None:
    hashed = bcrypt.hashpw(b"of version one", bcrypt.gensalt(13)).decode()
    old = await people.add("client", password_hash=hashed)
    unit = 0.02  # the old hash takes more than the most units there are, a new one fewer
    app = create_app(settings.model_copy(update={"failed_sign_in_seconds": unit}))
    async with client_of(app) as client:
        for email in (old.email, "nobody@example.org"):
            started = anyio.current_time()
            assert (await sign_in(client, email, "wrong", "203.0.113.9")).status_code == 401
            assert anyio.current_time() - started >= MAX_UNITS * unit
