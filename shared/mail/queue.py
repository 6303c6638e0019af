"""The queue: messages are stored in the transaction of their change until the worker sends them.

Every statement is here. The rows are in the table `outgoing_mails` of each service that sends mail.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid4

from shared.connections import execute_early, fetch
from shared.db import now
from shared.mail.encryption import MailEncryption
from shared.mail.messages import MAX_ATTACHMENT_BYTES, Attachment, Letterhead, Mail

GIVE_UP_AFTER = timedelta(hours=24)
RETENTION = timedelta(days=30)
"""How long after it was sent or parked a row names its recipient."""
EMPTY_AT_ONCE = 1000
LONGEST_ERROR = 500

ENCRYPTION = "carnet.mail_encryption"
"""Where `Transactions` stores the encryption in a session's `info`."""

_INSERT = """
INSERT INTO outgoing_mails
    (key, organization_id, user_id, recipient, template, content, due_at, give_up_at, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7::timestamptz, $8::timestamptz, $7::timestamptz)
"""
# Of two workers, the second waits until the first one's leases are visible: otherwise it could take
# a message whose predecessor for the same recipient is being taken at this moment.
_CLAIM_LOCK = (
    "SELECT pg_advisory_xact_lock(hashtextextended(current_schema() || '.outgoing_mails', 0))"
)
# A message may be taken if no earlier one for its recipient must wait for longer than itself.
_CLAIM = """
WITH claimable AS (
    SELECT id FROM outgoing_mails mail
    WHERE state = 'waiting' AND due_at <= $1 AND (leased_until IS NULL OR leased_until <= $1)
      AND NOT EXISTS (
        SELECT FROM outgoing_mails earlier
        WHERE earlier.recipient = mail.recipient AND earlier.id < mail.id
          AND earlier.state = 'waiting' AND (earlier.due_at > $1 OR earlier.leased_until > $1)
      )
    ORDER BY id LIMIT $3 FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE outgoing_mails mail SET leased_until = $2, attempts = attempts + 1
    FROM claimable WHERE mail.id = claimable.id
    RETURNING mail.id, key, organization_id, user_id, recipient, template, attempts, created_at,
        give_up_at, leased_until
)
SELECT * FROM claimed ORDER BY id
"""
_HAS_DUE = """
SELECT EXISTS (
    SELECT FROM outgoing_mails WHERE state = 'waiting' AND due_at <= $1
      AND (leased_until IS NULL OR leased_until <= $1)
) AS is_due
"""
_READ = "SELECT content FROM outgoing_mails WHERE id = $1 AND leased_until = $2"
_RELEASE = """
UPDATE outgoing_mails SET leased_until = NULL, attempts = attempts - 1
WHERE id = ANY($1::bigint[]) AND leased_until = $2 AND state = 'waiting'
"""
_MARK_SENT = """
UPDATE outgoing_mails
SET state = 'sent', content = NULL, error = NULL, leased_until = NULL, settled_at = $3
WHERE id = $1 AND leased_until = $2
"""
_DEFER = """
UPDATE outgoing_mails SET due_at = $3, error = $4, leased_until = NULL
WHERE id = $1 AND leased_until = $2
"""
_PARK = """
UPDATE outgoing_mails SET state = 'parked', error = $3, leased_until = NULL, settled_at = $4
WHERE id = $1 AND leased_until = $2
"""
_PARK_OVERDUE = """
WITH overdue AS (
    SELECT id FROM outgoing_mails WHERE state = 'waiting' AND give_up_at <= $1
      AND (leased_until IS NULL OR leased_until <= $1)
    ORDER BY id LIMIT $3 FOR UPDATE SKIP LOCKED
)
UPDATE outgoing_mails mail
SET state = 'parked', settled_at = $1, leased_until = NULL,
    error = concat_ws(': ', $2::text, error)
FROM overdue WHERE mail.id = overdue.id RETURNING template
"""
_EMPTY = """
UPDATE outgoing_mails SET recipient = NULL, user_id = NULL, content = NULL, error = NULL
WHERE id IN (
    SELECT id FROM outgoing_mails
    WHERE settled_at < $1 AND settled_at IS NOT NULL AND recipient IS NOT NULL LIMIT $2
) RETURNING id
"""
_DELETE_OF_USER = """
DELETE FROM outgoing_mails WHERE user_id = $1 OR (recipient = $2 AND state = 'waiting')
"""
_LIST = """
SELECT id, key, organization_id, user_id, recipient, template, state, attempts, due_at, give_up_at,
    error, created_at, settled_at
FROM outgoing_mails
WHERE ($1::text IS NULL OR state = $1) AND ($2::bigint[] IS NULL OR id = ANY($2))
ORDER BY id DESC LIMIT $3
"""
_RETRY = """
UPDATE outgoing_mails
SET state = 'waiting', attempts = 0, due_at = $2, give_up_at = $3, settled_at = NULL, error = NULL
WHERE state = 'parked' AND content IS NOT NULL AND ($1::bigint[] IS NULL OR id = ANY($1))
RETURNING id
"""
_DROP = """
DELETE FROM outgoing_mails WHERE state = 'parked' AND ($1::bigint[] IS NULL OR id = ANY($1))
RETURNING id
"""
_COUNTS = """
SELECT count(*) FILTER (WHERE state = 'waiting') AS waiting,
    count(*) FILTER (WHERE state = 'parked') AS parked,
    min(created_at) FILTER (WHERE state = 'waiting') AS oldest
FROM outgoing_mails WHERE state IN ('waiting', 'parked')
"""


@dataclass(frozen=True, slots=True)
class QueuedMail:
    """A row that a worker has leased."""

    id: int
    key: UUID
    organization_id: int | None
    user_id: int | None
    recipient: str
    template: str
    attempts: int
    created_at: datetime
    give_up_at: datetime
    leased_until: datetime


@dataclass(frozen=True, slots=True)
class QueueCounts:
    """How many messages wait and are parked, and since when the oldest one waits."""

    waiting: int
    parked: int
    oldest: datetime | None


async def queue_mail(session: AsyncSession, mail: Mail) -> None:
    """Store a message in the session's transaction: it is sent if the transaction commits.

    Raises ValueError if the attachments are too large, and KeyError in a service without mail.
    """
    if sum(len(attachment.content) for attachment in mail.attachments) > MAX_ATTACHMENT_BYTES:
        raise ValueError(f"the attachments have more than {MAX_ATTACHMENT_BYTES} bytes")
    encryption: MailEncryption = session.info[ENCRYPTION]
    key = uuid4()
    content = {
        "context": mail.context,
        "links": mail.links,
        "languages": mail.languages,
        "letterhead": asdict(mail.letterhead),
        "attachments": [attachment.as_json() for attachment in mail.attachments],
    }
    moment = now()
    await fetch(
        session,
        _INSERT,
        key,
        mail.organization_id,
        mail.user_id,
        mail.recipient,
        mail.template,
        encryption.encrypt(content, key),
        moment,
        moment + GIVE_UP_AFTER,
    )


def mail_of(queued: QueuedMail, content: Mapping[str, Any]) -> Mail:
    """Return the message of a row and its decrypted content."""
    return Mail(
        template=queued.template,
        recipient=queued.recipient,
        context=content["context"],
        links=content["links"],
        languages=tuple(content["languages"]),
        letterhead=Letterhead(**content["letterhead"]),
        attachments=tuple(Attachment.from_json(value) for value in content["attachments"]),
        organization_id=queued.organization_id,
        user_id=queued.user_id,
    )


async def has_due(session: AsyncSession) -> bool:
    """Return whether a message could be sent now."""
    [row] = await fetch(session, _HAS_DUE, now())
    return bool(row["is_due"])


async def claim(session: AsyncSession, limit: int, lease: timedelta) -> list[QueuedMail]:
    """Lease messages that are due, in the order in which they must be sent.

    Several may be for one recipient. Then the later ones may only be sent when the earlier ones
    no longer wait; call `release` for them otherwise.
    """
    await execute_early(session, _CLAIM_LOCK)
    moment = now()
    rows = await fetch(session, _CLAIM, moment, moment + lease, limit)
    return [QueuedMail(**row) for row in rows]


async def read_content(session: AsyncSession, mail: QueuedMail) -> str | None:
    """Return a leased message's encrypted content, or None if the row was deleted meanwhile."""
    rows = await fetch(session, _READ, mail.id, mail.leased_until)
    return rows[0]["content"] if rows else None


async def release(session: AsyncSession, mails: Sequence[QueuedMail]) -> None:
    """End the leases of messages that no one has tried to send."""
    if mails:
        await fetch(session, _RELEASE, [mail.id for mail in mails], mails[0].leased_until)


async def mark_sent(session: AsyncSession, mail: QueuedMail) -> None:
    """Mark a leased message as sent, and erase its content."""
    await fetch(session, _MARK_SENT, mail.id, mail.leased_until, now())


async def defer(session: AsyncSession, mail: QueuedMail, pause: timedelta, error: str) -> None:
    """Let a leased message wait for a pause."""
    await fetch(session, _DEFER, mail.id, mail.leased_until, now() + pause, error[:LONGEST_ERROR])


async def park(session: AsyncSession, mail: QueuedMail, error: str) -> None:
    """Give a leased message up."""
    await fetch(session, _PARK, mail.id, mail.leased_until, error[:LONGEST_ERROR], now())


async def park_overdue(session: AsyncSession, reason: str) -> list[str]:
    """Give up messages that have waited for too long; return their templates."""
    rows = await fetch(session, _PARK_OVERDUE, now(), reason, EMPTY_AT_ONCE)
    return [row["template"] for row in rows]


async def empty_old(session: AsyncSession) -> int:
    """Erase the personal data of rows that were settled long ago; return how many it were."""
    return len(await fetch(session, _EMPTY, now() - RETENTION, EMPTY_AT_ONCE))


async def delete_mails_of(session: AsyncSession, user_id: int, address: str) -> None:
    """Delete every message of a user, and those that wait to be sent to the user's address."""
    await fetch(session, _DELETE_OF_USER, user_id, address)


async def list_mails(
    session: AsyncSession, *, state: str | None, ids: Sequence[int] | None, limit: int
) -> Sequence[Mapping[str, Any]]:
    """Return rows without their content, the newest first."""
    return await fetch(session, _LIST, state, ids, limit)


async def retry(session: AsyncSession, ids: Sequence[int] | None) -> list[int]:
    """Let parked messages wait again for a day, or all if `ids` is None; return their ids."""
    moment = now()
    rows = await fetch(session, _RETRY, ids, moment, moment + GIVE_UP_AFTER)
    return [row["id"] for row in rows]


async def drop(session: AsyncSession, ids: Sequence[int] | None) -> list[int]:
    """Delete parked messages, or all of them if `ids` is None; return their ids."""
    return [row["id"] for row in await fetch(session, _DROP, ids)]


async def count_mails(session: AsyncSession) -> QueueCounts:
    """Return how many messages wait and are parked."""
    [row] = await fetch(session, _COUNTS)
    return QueueCounts(**row)
