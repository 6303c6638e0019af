"""Idempotency keys: the same caller, route, key and body get the first answer again.

A key's row is committed with the effect it stands for. While the effect is under way an advisory
lock (one transaction) or a lease in the row (a use case of several transactions) answers 409; a
crash releases the one at once and the other when it runs out, and the next attempt goes on.
"""

import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, cast

from pydantic import SecretStr
from sqlalchemy import Executable, Table, bindparam, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column
from starlette.requests import Request
from starlette.responses import Response

from shared.actors import Actor
from shared.db import now
from shared.errors import Conflict, Invalid
from shared.outbox import SharedBase
from shared.settings import ServiceSettings

HEADER = "Idempotency-Key"
RETENTION = timedelta(hours=24)
LEASE = timedelta(seconds=45)
MAX_KEY_LENGTH = 255


class RequestInProgress(Conflict):
    """A request with this Idempotency-Key is still running. Try again in a second."""


class IdempotencyKeyReused(Invalid):
    """This Idempotency-Key was used with another body. Use a new key for a new request."""

    def __init__(self) -> None:
        super().__init__(HEADER, "was used with another body; use a new key for a new request")


class IdempotencyReplay(Exception):
    """Carries the stored response out of the unit of work."""

    def __init__(self, record: "IdempotencyRecord") -> None:
        super().__init__()
        self.record = record


class IdempotencyRecord(SharedBase):
    """An idempotency key with what it stands for: `status` is null until there is an answer."""

    __tablename__ = "idempotency_keys"

    caller: Mapped[str] = mapped_column(primary_key=True)
    route: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[str]
    """The body's fingerprint by the key that signs calls, as version 2.0 compares it."""
    status: Mapped[int | None]
    body: Mapped[bytes | None]
    headers: Mapped[dict[str, Any] | None]
    resource_id: Mapped[int | None]
    leased_until: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=now, index=True)
    body_digest: Mapped[str | None]
    """The same by a secret of its own, which a rotation of the signing key leaves alone."""

    def response(self) -> Response:
        """Return the first answer again, marked as such."""
        headers = {**(self.headers or {}), "Idempotent-Replayed": "true"}
        return Response(self.body, status_code=self.status or 500, headers=headers)


_STORED_HEADERS = ("content-type", "location", "etag")
_IDENTITY = ("caller", "route", "key")
_KEYS = cast(Table, IdempotencyRecord.__table__)
# Put together once, and of the table: every POST with a key pays for them.
_INSERT = insert(_KEYS)
_LEASE_NEW = _INSERT.on_conflict_do_nothing().returning(_KEYS.c.key)
_LEASE_AGAIN = _INSERT.on_conflict_do_update(
    index_elements=_IDENTITY, set_={"leased_until": _INSERT.excluded.leased_until}
).returning(_KEYS.c.key)
_STORE = _INSERT.on_conflict_do_update(
    index_elements=_IDENTITY,
    set_={name: _INSERT.excluded[name] for name in ("status", "body", "headers")},
    where=_KEYS.c.status.is_(None),
)
_WRITE_LEASED = (
    update(_KEYS)
    .where(*(_KEYS.c[name] == bindparam(f"held_{name}") for name in (*_IDENTITY, "leased_until")))
    .returning(_KEYS.c.key)
)


class IdempotencyClaim:
    """A request's hold on its key. `resource_id` is what an interrupted attempt has made."""

    def __init__(
        self, caller: str, route: str, key: str, fingerprint: str, body_digest: str | None = None
    ) -> None:
        self.identity = {"caller": caller, "route": route, "key": key}
        self.fingerprint = fingerprint
        self.body_digest = body_digest
        self.resource_id: int | None = None
        self._leased_until: datetime | None = None

    async def begin(self, session: AsyncSession, *, lease: bool = False) -> None:
        """Take the key, in the transaction of the effect.

        With `lease` the key stays taken after this transaction, for a use case of several.
        Raises IdempotencyReplay with the first answer, RequestInProgress, or IdempotencyKeyReused.
        """
        if lease and await self._lease(session, _LEASE_NEW):
            return
        await self._take_up(session)
        if lease:
            await self._lease(session, _LEASE_AGAIN)

    async def _lease(self, session: AsyncSession, statement: Executable) -> bool:
        """Write that the key is taken; False when the statement leaves somebody else's row."""
        leased_until = now() + LEASE
        if not await session.scalar(statement, self._row({"leased_until": leased_until})):
            return False
        self._leased_until = leased_until
        return True

    async def _take_up(self, session: AsyncSession) -> None:
        """Take up what the key stands for, if anything, and keep others out meanwhile."""
        identity = "\n".join(self.identity.values())
        lock = func.pg_try_advisory_xact_lock(func.hashtextextended(identity, 1))
        if not await session.scalar(select(lock)):
            raise self._in_progress()
        row = await session.get(IdempotencyRecord, tuple(self.identity.values()))
        if row is not None and row.created_at < now() - RETENTION:
            await session.delete(row)
            await session.flush()
            row = None
        if row is not None:
            self._resume(row)

    def _resume(self, row: IdempotencyRecord) -> None:
        if not self._is_for_the_body_of(row):
            raise IdempotencyKeyReused
        if row.status is not None:
            raise IdempotencyReplay(row)
        if row.leased_until is not None and row.leased_until > now():
            raise self._in_progress()
        self.resource_id = row.resource_id

    def _is_for_the_body_of(self, row: IdempotencyRecord) -> bool:
        """Say whether the row was made by this body: either fingerprint proves it.

        Rows of version 2.0 have no digest, and instances of it compare the fingerprint alone; both
        may be at work during a rolling update.
        """
        same_digest = self.body_digest is not None and self.body_digest == row.body_digest
        return same_digest or self.fingerprint == row.fingerprint

    async def attach(self, session: AsyncSession, resource_id: int) -> None:
        """Note what was made, so that a later attempt goes on from there.

        Raises RequestInProgress when the lease ran out and another attempt has the key: what was
        made must be taken back then, or there would be two of it.
        """
        self.resource_id = resource_id
        if not await self._write(session, resource_id=resource_id):
            raise self._in_progress()

    async def store(self, session: AsyncSession, response: Response) -> None:
        """Keep the answer: in the transaction of the effect, or after that was rolled back.

        Another attempt may have got the key meanwhile: what it did stands.
        """
        if self._leased_until is None:
            await session.execute(_STORE, self._row(self._stored_values(response)))
        else:
            await self._write(session, **self._stored_values(response))

    @staticmethod
    def _stored_values(response: Response) -> dict[str, Any]:
        headers = {
            name: response.headers[name] for name in _STORED_HEADERS if name in response.headers
        }
        return {
            "status": response.status_code,
            "body": bytes(response.body),
            "headers": headers,
            "leased_until": None,
        }

    async def release(self, session: AsyncSession) -> None:
        """Let the key go without an answer, but keep what was made."""
        await self._write(session, leased_until=None)

    async def _write(self, session: AsyncSession, **values: Any) -> bool:
        """Write to the leased row; False, and nothing is written, when it is no longer ours.

        A process may stand still for longer than its lease, and another attempt go on meanwhile.
        """
        held = {**self.identity, "leased_until": self._leased_until}
        ours = {f"held_{name}": value for name, value in held.items()}
        return await session.scalar(_WRITE_LEASED, {**ours, **values}) is not None

    def _row(self, values: Mapping[str, Any]) -> dict[str, Any]:
        row = {"fingerprint": self.fingerprint, "body_digest": self.body_digest}
        return {**self.identity, **row, "created_at": now(), **values}

    @staticmethod
    def _in_progress() -> RequestInProgress:
        return RequestInProgress(headers={"Retry-After": "1"})


def is_final(status: int) -> bool:
    """Say whether an answer is final: a server's failure and a refusal for now are not."""
    return status < 500 and status not in (401, 429)


async def claim_of_request(request: Request, actor: Actor | None) -> IdempotencyClaim | None:
    """Return the claim that a POST with an Idempotency-Key makes; raises Invalid for a bad key."""
    key = request.headers.get(HEADER)
    if request.method != "POST" or key is None:
        return None
    if not 1 <= len(key) <= MAX_KEY_LENGTH or not (key.isascii() and key.isprintable()):
        raise Invalid(HEADER, f"must be 1 to {MAX_KEY_LENGTH} printable ASCII characters")
    caller = f"user/{actor.user_id}" if actor else "anonymous"
    sent = request.url.query.encode() + b"\n" + await request.body()
    settings: ServiceSettings = request.app.state.settings
    secret = settings.idempotency_secret
    return IdempotencyClaim(
        caller,
        request.url.path,
        key,
        _fingerprint(settings.internal_key, sent),
        _fingerprint(secret, sent) if secret else None,
    )


def _fingerprint(key: SecretStr, sent: bytes) -> str:
    """Return what tells one body from another, and nothing to who has only the database.

    Keyed, because bodies hold passwords: a plain hash would let them be guessed at full speed.
    """
    return hmac.new(key.get_secret_value().encode(), sent, hashlib.sha256).hexdigest()


async def delete_expired(session: AsyncSession) -> None:
    """Drop the answers that no client may ask for any more."""
    expired = IdempotencyRecord.created_at < now() - RETENTION
    await session.execute(delete(IdempotencyRecord).where(expired))
