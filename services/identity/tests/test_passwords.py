"""The rule for passwords, and the queue before the one thread that hashes."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import anyio
import pytest

from services.identity.errors import PasswordQueueFull
from services.identity.security.password_rule import require_strong
from services.identity.security.passwords import Passwords, Verdict
from shared.testing import until

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("password", ["password12", "Password12", "1234567890", "qwertyuiop"])
async def test_common_passwords_are_refused(password: str) -> None:
    with pytest.raises(ValueError, match="most commonly used"):
        require_strong(password)
    require_strong(password + " of mine")


async def test_a_hash_fits_its_password_alone() -> None:
    passwords = Passwords(places=4)
    hashed = await passwords.hash("zażółć gęślą jaźń")
    assert await passwords.verify("zażółć gęślą jaźń", hashed) == Verdict(matches=True)
    for wrong in ("zażółć gęślą jaźn", "", "a\x00b", "x" * 1024):
        assert not (await passwords.verify(wrong, hashed)).matches
    for nothing in (None, "!", "", "$2b$12$short", "$argon2id$broken"):
        assert not (await passwords.verify("anything", nothing)).matches


@contextmanager
def busy(passwords: Passwords) -> Iterator[Callable[[], None]]:
    """Keep the thread busy until the function that is yielded was called, or the block ends."""
    freed = threading.Event()
    passwords._executor.submit(freed.wait)
    try:
        yield freed.set
    finally:
        freed.set()


async def test_the_queue_is_bounded_and_the_known_go_first() -> None:
    passwords = Passwords(places=6)
    hashed = await passwords.hash("correct horse battery")
    order: list[str] = []

    async def verify(name: str, trusted: bool) -> None:
        try:
            await passwords.verify("correct horse battery", hashed, trusted=trusted)
            order.append(name)
        except PasswordQueueFull:
            order.append(f"{name} refused")

    with busy(passwords) as free:
        async with anyio.create_task_group() as group:
            for number in range(4):
                group.start_soon(verify, f"stranger {number}", False)
            for number in range(2):
                group.start_soon(verify, f"owner {number}", True)
            await until(lambda: passwords._waiting == 5)
            free()
    assert order[0] == "stranger 3 refused"
    assert order[1:] == ["owner 0", "owner 1", "stranger 0", "stranger 1", "stranger 2"]
    passwords.require_place()


async def test_who_went_away_is_not_waited_for() -> None:
    passwords = Passwords(places=2)
    with anyio.move_on_after(0.001):
        async with anyio.create_task_group() as group:
            group.start_soon(passwords.hash, "nobody waits for this")
    with anyio.fail_after(60):
        while True:
            try:
                passwords.require_place()
                break
            except PasswordQueueFull:
                await anyio.sleep(0.01)
    assert await passwords.hash("somebody waits for this")
