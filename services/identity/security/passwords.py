"""Password hashing in a thread beside the event loop, with a bounded queue.

Argon2id with 19 MiB, two passes, one lane (OWASP's second recommendation): 35 ms of one core.
One thread hashes, because more threads only slow each other down. Its queue is bounded, so that a
flood is answered with 503 at once instead of making every request wait.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from queue import PriorityQueue
from typing import TypeVar

import bcrypt
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from services.identity.errors import PasswordQueueFull
from services.identity.security.password_rule import WeakPassword, prepare, require_strong
from shared.errors import Invalid

BCRYPT_BYTES = 72
_BCRYPT_PREFIXES = ("$2a$", "$2b$", "$2y$")

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a password is right, and whether its hash should be renewed."""

    matches: bool
    outdated: bool = False


@dataclass(frozen=True, slots=True, order=True)
class _HashingJob:
    """Work that waits for the thread: trusted clients first, then in order of arrival."""

    is_untrusted: bool
    number: int
    work: Callable[[], None] = field(compare=False)


def _fulfil(future: "Future[Result]", work: Callable[[], Result]) -> None:
    """Do the work unless its request was cancelled."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = work()
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(result)


class Passwords:
    """Hashes and verifies passwords, one after the other, in a thread of its own.

    Half of the places in the queue are for every client. The other half is for sign-ins from known
    devices and networks, and these go first: unknown clients cannot keep an account's owner out.
    """

    def __init__(self, places: int) -> None:
        self._hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="passwords")
        self._places = places
        self._jobs: PriorityQueue[_HashingJob] = PriorityQueue()
        self._numbers = count()
        self._waiting = 0
        self._dummy_hash = self._hasher.hash("the password of an account that does not exist")

    async def hash(self, password: str) -> str:
        """Return the password's hash; raises PasswordQueueFull."""
        return await self._run(lambda: self._hasher.hash(prepare(password)))

    async def hash_new(
        self,
        password: str,
        about: Sequence[str],
        *,
        present: str | None = None,
        field: str = "password",
    ) -> str:
        """Return the hash of a new password; see `require_strong`.

        Raises Invalid, which names the field, for a weak password, and PasswordQueueFull.
        """

        def work() -> str:
            require_strong(password, about, present)
            return self._hasher.hash(prepare(password))

        try:
            return await self._run(work)
        except WeakPassword as weak:
            raise Invalid(field, str(weak)) from None

    async def verify(
        self, password: str, password_hash: str | None, *, trusted: bool = False
    ) -> Verdict:
        """Verify a password. Without a hash (no such account) the work is the same.

        Raises PasswordQueueFull.
        """
        verdict = await self._run(
            lambda: self._verify(password, password_hash or self._dummy_hash), trusted=trusted
        )
        return verdict if password_hash else Verdict(matches=False)

    def require_place(self, *, trusted: bool = False) -> None:
        """Raise PasswordQueueFull when there is no place for a password now."""
        places = self._places if trusted else max(1, self._places // 2)
        if self._waiting >= places:
            raise PasswordQueueFull(retry_after=1)

    async def _run(self, work: Callable[[], Result], *, trusted: bool = False) -> Result:
        self.require_place(trusted=trusted)
        self._waiting += 1
        loop = asyncio.get_running_loop()
        future: Future[Result] = Future()

        # The place is free when the thread has finished, even if the request was cancelled.
        def leave_queue(_: Future[Result]) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._free_place)

        future.add_done_callback(leave_queue)
        self._jobs.put(
            _HashingJob(not trusted, next(self._numbers), partial(_fulfil, future, work))
        )
        self._executor.submit(self._do_most_urgent)
        return await asyncio.wrap_future(future)

    def _do_most_urgent(self) -> None:
        """Do the first job by rank, which need not be the one that was submitted last."""
        self._jobs.get_nowait().work()

    def _free_place(self) -> None:
        self._waiting -= 1

    def _verify(self, password: str, password_hash: str) -> Verdict:
        """Verify the prepared password, and then the text as typed, which older hashes used."""
        verdict = self._verify_text(text := prepare(password), password_hash)
        if verdict.matches or text == password:
            return verdict
        return Verdict(self._verify_text(password, password_hash).matches, outdated=True)

    def _verify_text(self, password: str, password_hash: str) -> Verdict:
        if password_hash.startswith(_BCRYPT_PREFIXES):
            return Verdict(_bcrypt_matches(password, password_hash), outdated=True)
        try:
            self._hasher.verify(password_hash, password)
        except (VerificationError, InvalidHashError):
            return Verdict(matches=False)
        return Verdict(matches=True, outdated=self._hasher.check_needs_rehash(password_hash))


def _bcrypt_matches(password: str, password_hash: str) -> bool:
    """Compare as version 1 did: bcrypt uses the first 72 bytes."""
    try:
        return bcrypt.checkpw(password.encode()[:BCRYPT_BYTES], password_hash.encode())
    except ValueError:
        return False
