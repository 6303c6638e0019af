"""A real SMTP server for tests, which answers as a test wants. A pytest plugin."""

import asyncio
import ssl
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword

from shared.testing import free_port


@dataclass
class ReceivingServer:
    """An SMTP server on 127.0.0.1 that stores what it accepts, in the order of arrival.

    `answers` has the answers to the next `RCPT TO` of an address, `data_answers` those to the next
    messages; without one it accepts. `before_answer` is awaited between a message's end and its
    answer.
    """

    port: int = field(default_factory=free_port)
    tls: ssl.SSLContext | None = None
    user: str | None = None
    password: str | None = None
    messages: list[EmailMessage] = field(default_factory=list)
    recipients: list[str] = field(default_factory=list)
    connections: int = 0
    answers: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    data_answers: list[str] = field(default_factory=list)
    before_answer: Callable[[], Awaitable[None]] | None = None
    _server: asyncio.Server | None = None
    _sessions: set[SMTP] = field(default_factory=set)

    @property
    def url(self) -> str:
        """The address for the setting `SMTP_URL`."""
        secret = f"{self.user}:{self.password}@" if self.user else ""
        return f"{'smtp+starttls' if self.tls else 'smtp'}://{secret}127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.get_running_loop().create_server(
            self._session, "127.0.0.1", self.port
        )

    async def stop(self) -> None:
        """Stop listening and end every connection."""
        if self._server is not None:
            self._server.close()
            for session in list(self._sessions):
                if session.transport is not None:
                    session.transport.close()
            await self._server.wait_closed()
            self._server = None

    def to(self, recipient: str) -> list[EmailMessage]:
        """Return the messages for an address."""
        return [
            message
            for message, name in zip(self.messages, self.recipients, strict=True)
            if name == recipient
        ]

    def _session(self) -> SMTP:
        self.connections += 1
        session = SMTP(
            self,
            tls_context=self.tls,
            require_starttls=self.tls is not None,
            auth_required=self.user is not None,
            auth_require_tls=self.tls is not None,
            authenticator=self._authenticate,
            enable_SMTPUTF8=True,
        )
        self._sessions.add(session)
        return session

    def _authenticate(self, *arguments: Any) -> AuthResult:
        data = arguments[-1]
        matches = (
            isinstance(data, LoginPassword)
            and data.login == (self.user or "").encode()
            and data.password == (self.password or "").encode()
        )
        return AuthResult(success=matches, handled=False)

    async def handle_RCPT(  # noqa: N802 - the name in aiosmtpd
        self, _server: Any, _session: Any, envelope: Envelope, address: str, _options: Any
    ) -> str:
        """Accept a recipient, or give the answer that a test has set."""
        if self.answers[address]:
            return self.answers[address].pop(0)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(  # noqa: N802 - the name in aiosmtpd
        self, _server: Any, _session: Any, envelope: Envelope
    ) -> str:
        """Store a message, or give the answer that a test has set."""
        if self.data_answers:
            return self.data_answers.pop(0)
        content = envelope.content
        assert isinstance(content, bytes)
        self.messages.append(message_from_bytes(content, policy=default))
        self.recipients.append(envelope.rcpt_tos[0])
        if self.before_answer is not None:
            await self.before_answer()
        return "250 OK"


@pytest.fixture
async def smtp() -> AsyncIterator[ReceivingServer]:
    """A running SMTP server that accepts everything."""
    server = ReceivingServer()
    await server.start()
    yield server
    await server.stop()
