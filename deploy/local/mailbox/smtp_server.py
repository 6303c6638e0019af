"""The SMTP server: it accepts every message and stores it, once for each recipient."""

import asyncio
from datetime import UTC, datetime
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope

from deploy.local.mailbox.store import MessageStore

LARGEST_BYTES = 25_000_000


class Receiver:
    """Stores what arrives."""

    def __init__(self, store: MessageStore) -> None:
        self._store = store

    async def handle_DATA(  # noqa: N802 - the name in aiosmtpd
        self, _server: Any, _session: Any, envelope: Envelope
    ) -> str:
        """Store a message for each of its recipients."""
        content = envelope.content
        source = content if isinstance(content, bytes) else (content or "").encode()
        for recipient in envelope.rcpt_tos:
            self._store.add(recipient, datetime.now(UTC).isoformat(), source)
        return "250 Message accepted; the local mailbox delivers nothing"


async def serve_smtp(store: MessageStore, host: str, port: int) -> asyncio.Server:
    """Listen for messages; return the running server."""
    receiver = Receiver(store)

    def session() -> SMTP:
        return SMTP(
            receiver, hostname="localhost", data_size_limit=LARGEST_BYTES, enable_SMTPUTF8=True
        )

    return await asyncio.get_running_loop().create_server(session, host, port)
