"""One connection to the SMTP server for many messages, and what its answers mean."""

import contextlib
import ssl
import time
from email.message import EmailMessage

from aiosmtplib import (
    SMTP,
    SMTPDataError,
    SMTPException,
    SMTPNotSupported,
    SMTPRecipientsRefused,
    SMTPResponseException,
    SMTPSenderRefused,
)

from shared.mail.settings import SmtpServer

TIMEOUT = 30.0
"""Seconds for each answer of the server."""
IDLE_SECONDS = 20.0
"""A connection that was idle for longer is closed: servers close it sooner or later too."""
SERVICE_CLOSING = 421
CREDENTIAL_CODES = frozenset({530, 534, 535, 538})
"""The server wants another sign-in: https://www.rfc-editor.org/rfc/rfc4954#section-6."""


class Unreachable(Exception):
    """The server cannot be used now. Whether it has accepted the present message is unknown."""


class Deferred(Exception):
    """The server did not accept this message now, but may later."""


class Refused(Exception):
    """The server will never accept this message."""


class AddressRefused(Refused):
    """The server will never accept a message for this address."""


class SmtpConnection:
    """Opens a connection when it is needed, and again after a failure."""

    def __init__(self, server: SmtpServer) -> None:
        self._server = server
        self._client: SMTP | None = None
        self._used_at = 0.0

    async def open(self) -> None:
        """Connect and sign in, unless the connection is open. Raises Unreachable."""
        if self._client is not None and self._client.is_connected:
            if time.monotonic() - self._used_at < IDLE_SECONDS:
                return
            await self.close()
        server = self._server
        client = SMTP(
            hostname=server.host,
            port=server.port,
            timeout=TIMEOUT,
            use_tls=server.scheme == "smtps",
            start_tls={"smtps": False, "smtp+starttls": True}.get(server.scheme),
        )
        try:
            await client.connect()
            self._client = client
            if server.user is not None and server.password is not None:
                self._require_secrecy(client)
                await client.login(server.user, server.password)
        except (SMTPException, OSError, ssl.SSLError, ValueError) as error:
            await self.close()
            raise Unreachable(_text(error)) from error
        self._used_at = time.monotonic()

    async def send(self, message: EmailMessage, *, sender: str, recipient: str) -> None:
        """Send a message on the open connection.

        Raises Deferred, Refused, AddressRefused, and Unreachable after which the connection is
        closed.
        """
        if self._client is None:
            raise Unreachable("There is no connection.")
        try:
            await self._client.send_message(message, sender=sender, recipients=[recipient])
        except SMTPRecipientsRefused as error:
            answer = error.recipients[0]
            await self._raise_answer(answer.code, answer.message, is_address=True)
        except (SMTPSenderRefused, SMTPDataError) as error:
            # A refused sender is a matter of the operator's settings, which can be corrected.
            is_final = isinstance(error, SMTPDataError)
            await self._raise_answer(error.code, error.message, is_final=is_final)
        except SMTPNotSupported as error:
            raise Refused(_text(error)) from error
        except SMTPResponseException as error:
            await self._raise_answer(error.code, error.message, is_final=False)
        except (SMTPException, OSError) as error:
            await self.close()
            raise Unreachable(_text(error)) from error
        self._used_at = time.monotonic()

    async def close_if_idle(self) -> None:
        """Close a connection that was idle for long."""
        if self._client is not None and time.monotonic() - self._used_at >= IDLE_SECONDS:
            await self.close()

    async def close(self) -> None:
        """Close the connection, if there is one."""
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(SMTPException, OSError, TimeoutError):
                client.timeout = 2.0
                await client.quit()
            client.close()

    def _require_secrecy(self, client: SMTP) -> None:
        """Raise ValueError if a password would be sent in clear over the network."""
        if client.get_transport_info("sslcontext") is None and not self._server.is_local:
            raise ValueError("The server offers no TLS, so the password was not sent.")

    async def _raise_answer(
        self, code: int, text: str, *, is_address: bool = False, is_final: bool = True
    ) -> None:
        """Raise the error that an answer other than success means."""
        answer = f"{code} {text}"
        if code == SERVICE_CLOSING:
            await self.close()
            raise Unreachable(answer)
        if code < 500 or code in CREDENTIAL_CODES or not is_final:
            raise Deferred(answer)
        raise AddressRefused(answer) if is_address else Refused(answer)


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__
