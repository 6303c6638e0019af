"""Device cookies: one budget for an account, a date, a new start with each password."""

import base64
import hashlib
import hmac
from datetime import timedelta

import httpx
import pytest

from services.identity.app import create_app
from services.identity.security.device_cookies import MAX_AGE, Device, DeviceCookies
from services.identity.security.key_encryption import KeyEncryption
from services.identity.service import attempt_limits
from services.identity.service.attempt_limits import (
    PER_ACCOUNT,
    PER_ACCOUNT_AND_ADDRESS,
    PER_KNOWN_DEVICE,
)
from services.identity.settings import Settings
from services.identity.tests.conftest import PASSWORD, People, Person
from shared.db import now
from shared.testing import Database, client_of
from shared.transactions import Transactions

pytestmark = pytest.mark.anyio

NEW_PASSWORD = "another good one"


@pytest.fixture
def cookies(settings: Settings) -> DeviceCookies:
    return DeviceCookies(KeyEncryption(settings.signing_secret))


async def _sign_in(
    client: httpx.AsyncClient,
    person: Person,
    password: str,
    address: str,
    cookie: str | None = None,
    name: str = "carnet_device",
) -> httpx.Response:
    client.cookies.clear()
    headers = {"X-Client-Address": address}
    if cookie is not None:
        headers["Cookie"] = f"{name}={cookie}"
    credentials = {"email": person.email, "password": password}
    return await client.post("/api/auth/login", json=credentials, headers=headers)


async def _guesses(client: httpx.AsyncClient, person: Person, hoard: list[str]) -> int:
    """Return how many wrong passwords are looked at, from one address with many cookies."""
    guesses = 0
    for cookie in hoard:
        for _ in range(PER_KNOWN_DEVICE + 1):
            answer = await _sign_in(client, person, "wrong", "203.0.113.9", cookie)
            if answer.status_code == 429:
                break
            guesses += 1
    return guesses


async def test_hoarded_cookies_are_one_budget(
    client: httpx.AsyncClient, people: People, cookies: DeviceCookies
) -> None:
    person = await people.add("client")
    hoard = [cookies.make(person.id) for _ in range(4)]
    assert await _guesses(client, person, hoard) == PER_KNOWN_DEVICE


@pytest.mark.parametrize("by_administrator", [True, False])
async def test_after_a_new_password_hoarded_cookies_are_strangers(
    client: httpx.AsyncClient, people: People, by_administrator: bool
) -> None:
    admin, person = await people.add("admin"), await people.add("client")
    signed_in = await _sign_in(client, person, PASSWORD, "198.51.100.7")
    hoard = [signed_in.cookies["carnet_device"]]
    if by_administrator:
        path, body = f"/api/admin/users/{person.id}/password", {"password": NEW_PASSWORD}
        answer = await client.put(path, json=body, headers=admin.headers)
    else:
        body = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
        answer = await client.put("/api/auth/password", json=body, headers=person.headers)
    assert answer.status_code == 200
    assert await _guesses(client, person, hoard) == PER_ACCOUNT_AND_ADDRESS
    for _ in range(PER_ACCOUNT_AND_ADDRESS):
        answer = await _sign_in(client, person, "wrong", "198.51.100.7")
        assert answer.status_code == 401
    answer = await _sign_in(client, person, NEW_PASSWORD, "198.51.100.7")
    assert answer.status_code == 429, "the network of an older password is a stranger's too"


async def test_the_device_that_changes_the_password_stays_known(
    client: httpx.AsyncClient, people: People, transactions: Transactions
) -> None:
    person = await people.add("client")
    await _sign_in(client, person, PASSWORD, "203.0.113.9")
    body = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
    changed = await client.put("/api/auth/password", json=body, headers=person.headers)
    counters = attempt_limits.unknown_client_counters(f"user {person.id}", "203.0.113.9")
    for _ in range(PER_ACCOUNT_AND_ADDRESS):
        async with transactions.system() as session:
            await attempt_limits.count_attempt(session, counters)
    refused = await _sign_in(client, person, NEW_PASSWORD, "203.0.113.9")
    assert refused.status_code == 429
    cookie = changed.cookies["carnet_device"]
    answer = await _sign_in(client, person, NEW_PASSWORD, "203.0.113.9", cookie)
    assert answer.status_code == 200


async def test_collected_networks_are_bounded_together(
    client: httpx.AsyncClient, people: People, transactions: Transactions
) -> None:
    person = await people.add("client")
    networks = [f"198.51.100.{number}" for number in range(PER_ACCOUNT // PER_KNOWN_DEVICE + 1)]
    for network in networks:
        assert (await _sign_in(client, person, PASSWORD, network)).status_code == 200
    for network in networks[:-1]:
        counters = attempt_limits.known_network_counters(f"user {person.id}", None, network)
        for _ in range(PER_KNOWN_DEVICE):
            async with transactions.system() as session:
                await attempt_limits.count_attempt(session, counters)
    assert (await _sign_in(client, person, "wrong", networks[-1])).status_code == 429


async def test_a_device_is_known_to_its_user_until_the_next_password(
    people: People, cookies: DeviceCookies, database: Database
) -> None:
    person = await people.add("client")
    cookie = cookies.make(person.id)
    async with database.admin() as admin:
        await admin.execute("UPDATE users SET known_since = now() - interval '1 day'")
    device = cookies.read(cookie)
    assert device is not None
    [user] = await database.rows("SELECT id, known_since FROM users")
    assert device.is_valid_for(user["id"], user["known_since"])
    assert not device.is_valid_for(user["id"] + 1, None)
    assert not device.is_valid_for(user["id"], now() + timedelta(seconds=1))


async def test_a_cookie_has_a_date_under_its_mac(
    cookies: DeviceCookies, settings: Settings
) -> None:
    raw = base64.urlsafe_b64decode(cookies.make(7))
    assert len(raw) == 41
    device = cookies.read(base64.urlsafe_b64encode(raw).decode())
    assert device is not None
    assert device.user_id == 7
    assert abs(device.known_from - now()) < timedelta(minutes=1)
    for place in range(len(raw)):
        forged = bytearray(raw)
        forged[place] ^= 1
        assert cookies.read(base64.urlsafe_b64encode(bytes(forged)).decode()) is None, place
    for part in (b"", raw[:-1], raw[:25], raw + b"x"):
        assert cookies.read(base64.urlsafe_b64encode(part).decode()) is None


def _signed(settings: Settings, body: bytes) -> str:
    key = KeyEncryption(settings.signing_secret).derive_key("device cookies")
    return base64.urlsafe_b64encode(body + hmac.digest(key, body, hashlib.sha256)[:16]).decode()


async def test_old_cookies_belong_to_no_device(cookies: DeviceCookies, settings: Settings) -> None:
    body = base64.urlsafe_b64decode(cookies.make(7))[:25]
    assert isinstance(cookies.read(_signed(settings, body)), Device)
    age = (MAX_AGE + timedelta(seconds=1)) // timedelta(microseconds=1)
    made_at = int.from_bytes(body[9:17], "big") - age
    expired = body[:9] + made_at.to_bytes(8, "big") + body[17:]
    assert cookies.read(_signed(settings, expired)) is None
    version_1 = bytes(12) + (7).to_bytes(8, "big")
    assert cookies.read(_signed(settings, version_1)) is None, "it has no date"


async def test_where_clients_use_https_the_cookie_is_bound_to_the_host(
    settings: Settings, people: People, cookies: DeviceCookies
) -> None:
    person = await people.add("client")
    secure = settings.model_copy(update={"secure_cookies": True})
    async with client_of(create_app(secure)) as client:
        plain = cookies.make(person.id)
        answer = await _sign_in(client, person, PASSWORD, "192.0.2.1", plain)
        [new, removed] = answer.headers.get_list("set-cookie")
        assert new.startswith("__Host-carnet_device=")
        attributes = {part.strip().lower() for part in new.split(";")[1:]}
        assert {"path=/", "secure", "httponly", "samesite=strict"} <= attributes
        assert not [part for part in attributes if part.startswith("domain")]
        assert removed.startswith('carnet_device="";')
        assert "Max-Age=0" in removed
        own = new.partition("=")[2].partition(";")[0]
        for _ in range(PER_KNOWN_DEVICE):
            answer = await _sign_in(
                client, person, "wrong", "203.0.113.9", own, "__Host-carnet_device"
            )
            assert answer.status_code == 401
        answer = await _sign_in(client, person, "wrong", "203.0.113.9", own, "__Host-carnet_device")
        assert answer.status_code == 429
