"""Idempotency keys: a repetition with the same caller, route, key and body gets the first response.

A key's row is committed together with the effect of the request. While that request runs, an
advisory lock (in the transaction that claims the key) or a lease in the row (after it, in a use
case with several) makes others respond with 409 at once: none waits with a connection to the
database. After a crash the lock is released at once, the lease when it expires; the next attempt
then continues.
"""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, cast

from pydantic import SecretStr
from sqlalchemy import Table, Text, bindparam, delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column
from starlette.requests import Request
from starlette.responses import Response

from shared.actors import Actor
from shared.connections import fetch
from shared.db import now
from shared.errors import Conflict, Invalid
from shared.json_responses import ResponseWithSecret
from shared.outbox import SharedBase
from shared.settings import ServiceSettings
from shared.writes import Writes

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
    """An idempotency key and the response to it: `status` is null until there is one."""

    __tablename__ = "idempotency_keys"

    caller: Mapped[str] = mapped_column(primary_key=True)
    route: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[str]
    """The body's fingerprint, made with the key that signs calls: version 2.0 compares it."""
    status: Mapped[int | None]
    body: Mapped[bytes | None]
    headers: Mapped[dict[str, Any] | None]
    resource_id: Mapped[int | None]
    leased_until: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=now, index=True)
    body_digest: Mapped[str | None]
    """The body's fingerprint, made with a secret of its own, which is not rotated with that key."""

    def response(self) -> Response:
        """Return the stored response, marked as a repetition."""
        headers = {**(self.headers or {}), "Idempotent-Replayed": "true"}
        return Response(self.body, status_code=self.status or 500, headers=headers)


_STORED_HEADERS = ("content-type", "location", "etag")
_IDENTITY = ("caller", "route", "key")
_KEYS = cast(Table, IdempotencyRecord.__table__)
# Built once, and of the table instead of the model: every POST with a key executes some of them.
_INSERT = insert(_KEYS)
_TRY_LOCK = select(
    func.pg_try_advisory_xact_lock(func.hashtextextended(bindparam("identity", type_=Text), 1))
)
_LEASE_AGAIN = _INSERT.on_conflict_do_update(
    index_elements=_IDENTITY, set_={"leased_until": _INSERT.excluded.leased_until}
)
_STORE = _INSERT.on_conflict_do_update(
    index_elements=_IDENTITY,
    set_={name: _INSERT.excluded[name] for name in ("status", "body", "headers")},
    where=_KEYS.c.status.is_(None),
)
_LEASED = {
    **dict.fromkeys((*_IDENTITY, "fingerprint", "body_digest"), "text"),
    **dict.fromkeys(("created_at", "leased_until"), "timestamptz"),
}


@lru_cache
def _lease_with(statement: str, parameters: int) -> str:
    """Return a statement that leases a new key, and executes one that selects.

    Its first parameters are those of the latter, whose number is `parameters`; then follow the
    columns of `_LEASED` and the text of the lock. It inserts nothing while another transaction has
    that lock: the insertion would wait for its end. At least one row is returned.
    """
    values = (f"${number}::{kind}" for number, kind in enumerate(_LEASED.values(), parameters + 1))
    lock = f"hashtextextended(${parameters + len(_LEASED) + 1}::text, 1)"
    return (
        f"WITH lease AS (INSERT INTO idempotency_keys ({', '.join(_LEASED)})"  # noqa: S608
        f" SELECT {', '.join(values)} WHERE pg_try_advisory_xact_lock({lock})"
        " ON CONFLICT DO NOTHING RETURNING key)"
        " SELECT selected.*, EXISTS (SELECT FROM lease) AS is_leased FROM (SELECT) AS one"
        f" LEFT JOIN (SELECT rows.*, true AS is_selected FROM ({statement}) AS rows) AS selected"
        " ON true"
    )


class IdempotencyClaim:
    """A request's claim of its key. `resource_id` names the resource of an interrupted attempt."""

    def __init__(
        self, caller: str, route: str, key: str, fingerprint: str, body_digest: str | None = None
    ) -> None:
        self.identity = {"caller": caller, "route": route, "key": key}
        self._text = "\n".join(self.identity.values())
        self.fingerprint = fingerprint
        self.body_digest = body_digest
        self.resource_id: int | None = None
        self._leased_until: datetime | None = None

    async def begin(self, session: AsyncSession, *, lease: bool = False) -> None:
        """Claim the key, in the transaction of the effect.

        With `lease` the key remains claimed after this transaction, for a use case with several.
        Raises IdempotencyReplay with the first response, RequestInProgress, or
        IdempotencyKeyReused.
        """
        if lease:
            await self.lease_and_fetch(session, "SELECT")
        else:
            await self._continue_earlier(session)

    async def lease_and_fetch(
        self, session: AsyncSession, statement: str, *parameters: Any
    ) -> Sequence[Mapping[str, Any]]:
        """Claim the key beyond this transaction, and return the rows that a statement selects.

        Both is one statement, if the key is new. Raises as `begin` does.
        """
        leased_until = now() + LEASE
        row = self._row({"leased_until": leased_until})
        lease = _lease_with(statement, len(parameters))
        values = (row[name] for name in _LEASED)
        rows = await fetch(session, lease, *parameters, *values, self._text)
        if not rows[0]["is_leased"]:
            await self._continue_earlier(session)
            await session.execute(_LEASE_AGAIN, row)
        self._leased_until = leased_until
        return [row for row in rows if row["is_selected"]]

    @property
    def is_leased(self) -> bool:
        """Whether this request has the key beyond the transaction that claimed it."""
        return self._leased_until is not None

    def forget_lease(self) -> None:
        """Forget the lease: the transaction that wrote it was rolled back."""
        self._leased_until = None

    async def _continue_earlier(self, session: AsyncSession) -> None:
        """Lock the key until the end of the transaction, and read the row of an earlier attempt.

        Raises as `begin` does.
        """
        if not await session.scalar(_TRY_LOCK, {"identity": self._text}):
            raise self._in_progress()
        row = await session.get(IdempotencyRecord, tuple(self.identity.values()))
        if row is not None and row.created_at < now() - RETENTION:
            await session.delete(row)
            await session.flush()
            row = None
        if row is None:
            return
        if not self._has_same_body(row):
            raise IdempotencyKeyReused
        if row.status is not None:
            raise IdempotencyReplay(row)
        if row.leased_until is not None and row.leased_until > now():
            raise self._in_progress()
        self.resource_id = row.resource_id

    def _has_same_body(self, row: IdempotencyRecord) -> bool:
        """Return whether the row is of a request with this body: either fingerprint proves it.

        Rows of version 2.0 have no digest, and its instances compare only the fingerprint; both
        versions may run during a rolling update.
        """
        same_digest = self.body_digest is not None and self.body_digest == row.body_digest
        return same_digest or self.fingerprint == row.fingerprint

    async def attach(self, session: AsyncSession, resource_id: int) -> None:
        """Record the resource that was created, so that a later attempt continues with it.

        The writes of `shared.writes` that are not sent yet are sent with it, and the resource may
        be one of their new rows.

        Raises RequestInProgress if the lease has expired and another attempt has the key: the
        resource must be rolled back then, or there would be two.
        """
        if not await self._write(session, resource_id=resource_id):
            raise self._in_progress()

    async def store(self, session: AsyncSession, response: Response) -> None:
        """Store the response in the transaction of the effect, or after that was rolled back.

        If another attempt has claimed the key in between, its row is not changed.
        """
        headers = {
            name: response.headers[name] for name in _STORED_HEADERS if name in response.headers
        }
        body = response.repeated if isinstance(response, ResponseWithSecret) else response.body
        values = {
            "status": response.status_code,
            "body": bytes(body),
            "headers": headers,
            "leased_until": None,
        }
        if self._leased_until is None:
            await session.execute(_STORE, self._row(values))
        else:
            await self._write(session, **values)

    async def release(self, session: AsyncSession) -> None:
        """End the lease without a response. `resource_id` remains."""
        await self._write(session, leased_until=None)

    async def _write(self, session: AsyncSession, **values: Any) -> bool:
        """Write to the leased row; return False, and write nothing, if the lease is not ours.

        A process may pause for longer than its lease, and another attempt continue meanwhile.
        """
        if self._leased_until is None:
            return False
        writes = Writes(session)
        leased_row = {**self.identity, "leased_until": self._leased_until}
        result = writes.update(IdempotencyRecord, values, where=leased_row)
        await writes.send()
        return result.count == 1

    def _row(self, values: Mapping[str, Any]) -> dict[str, Any]:
        row = {"fingerprint": self.fingerprint, "body_digest": self.body_digest}
        return {**self.identity, **row, "created_at": now(), **values}

    @staticmethod
    def _in_progress() -> RequestInProgress:
        return RequestInProgress(headers={"Retry-After": "1"})


def is_final(status: int) -> bool:
    """Return whether a response is final: a server error and a temporary refusal are not."""
    return status < 500 and status not in (401, 429)


async def claim_of_request(request: Request, actor: Actor | None) -> IdempotencyClaim | None:
    """Return the claim of a POST with an Idempotency-Key. Raises Invalid for an invalid key."""
    key = request.headers.get(HEADER)
    if request.method != "POST" or key is None:
        return None
    if not 1 <= len(key) <= MAX_KEY_LENGTH or not (key.isascii() and key.isprintable()):
        raise Invalid(HEADER, f"must be 1 to {MAX_KEY_LENGTH} printable ASCII characters")
    caller = f"user/{actor.user_id}" if actor else "anonymous"
    content = request.url.query.encode() + b"\n" + await request.body()
    settings: ServiceSettings = request.app.state.settings
    secret = settings.idempotency_secret
    return IdempotencyClaim(
        caller,
        request.url.path,
        key,
        _fingerprint(settings.internal_key, content),
        _fingerprint(secret, content) if secret else None,
    )


def _fingerprint(key: SecretStr, content: bytes) -> str:
    """Return a keyed hash that differs for different contents.

    Keyed, because bodies contain passwords: a plain hash would allow guessing them at full speed
    with a copy of the database.
    """
    return hmac.new(key.get_secret_value().encode(), content, hashlib.sha256).hexdigest()


async def delete_expired(session: AsyncSession) -> None:
    """Delete the responses that are older than RETENTION."""
    expired = IdempotencyRecord.created_at < now() - RETENTION
    await session.execute(delete(IdempotencyRecord).where(expired))
