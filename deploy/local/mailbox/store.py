"""The messages in one SQLite file. The oldest ones are deleted when there are too many."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

MOST_MESSAGES = 5000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT, recipient TEXT NOT NULL, received_at TEXT NOT NULL,
    source BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS messages_by_recipient ON messages (recipient, id);
"""


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message for one recipient, as the SMTP server has received it."""

    id: int
    recipient: str
    received_at: str
    source: bytes


class MessageStore:
    """Stores messages. `path` is a file or `:memory:`."""

    def __init__(self, path: str, *, most_messages: int = MOST_MESSAGES) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.executescript("PRAGMA journal_mode = WAL;" + _SCHEMA)
        self._most_messages = most_messages

    def add(self, recipient: str, received_at: str, source: bytes) -> None:
        """Store a message."""
        cursor = self._connection.execute(
            "INSERT INTO messages (recipient, received_at, source) VALUES (?, ?, ?)",
            (recipient.lower(), received_at, source),
        )
        oldest = (cursor.lastrowid or 0) - self._most_messages
        self._connection.execute("DELETE FROM messages WHERE id <= ?", (oldest,))

    def list_messages(self, recipient: str | None, limit: int) -> Sequence[StoredMessage]:
        """Return messages, the newest first; those of one address if it is given."""
        rows = self._connection.execute(
            "SELECT id, recipient, received_at, source FROM messages"
            " WHERE ? IS NULL OR recipient = ? ORDER BY id DESC LIMIT ?",
            (recipient, recipient.lower() if recipient else None, limit),
        )
        return [StoredMessage(*row) for row in rows]

    def find(self, message_id: int) -> StoredMessage | None:
        """Return a message, or None."""
        query = "SELECT id, recipient, received_at, source FROM messages WHERE id = ?"
        row = self._connection.execute(query, (message_id,)).fetchone()
        return StoredMessage(*row) if row else None

    def close(self) -> None:
        """Close the file."""
        self._connection.close()
