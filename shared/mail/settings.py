"""Settings of the services that send mail: the SMTP server, the sender, and the public address."""

from dataclasses import dataclass, field
from email.headerregistry import Address
from email.utils import parseaddr
from ipaddress import ip_address
from typing import Annotated
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from shared.mail.encryption import MailEncryption
from shared.settings import ServiceSettings

_PORTS = {"smtp": 587, "smtp+starttls": 587, "smtps": 465}


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """An SMTP server, as `SMTP_URL` describes it.

    `smtps` uses TLS from the first byte, `smtp+starttls` requires STARTTLS (RFC 3207), and `smtp`
    uses STARTTLS if the server offers it. A password is never sent without TLS, except to this
    machine.
    """

    host: str
    port: int
    scheme: str
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    @classmethod
    def of_url(cls, url: str) -> "SmtpServer":
        """Return the server of a URL. Raises ValueError; the message does not contain the URL."""
        parts = urlsplit(url)
        if parts.scheme not in _PORTS or not parts.hostname or parts.path.strip("/"):
            raise ValueError("must be smtp://, smtp+starttls:// or smtps://user:password@host:port")
        if (parts.username is None) != (parts.password is None):
            raise ValueError("must have both a user and a password, or neither")
        return cls(
            parts.hostname,
            parts.port or _PORTS[parts.scheme],
            parts.scheme,
            unquote(parts.username) if parts.username else None,
            unquote(parts.password) if parts.password else None,
        )

    @property
    def is_local(self) -> bool:
        """Whether the server is on this machine."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def _none_for_empty(value: object) -> object:
    """Return None for an empty variable: Docker Compose sets a missing one to an empty text."""
    return None if value == "" else value


def _require_smtp_url(url: SecretStr) -> SecretStr:
    SmtpServer.of_url(url.get_secret_value())
    return url


def _require_sender(text: str) -> str:
    """Accept `name <address>` or an address. Raises ValueError."""
    sender_of(text)
    return text


def _require_public_url(url: str) -> str:
    """Return the address without a slash at its end. Raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("must be an address such as https://carnet.example")
    return url.rstrip("/")


def sender_of(text: str) -> Address:
    """Return a sender of the form `name <address>`. Raises ValueError."""
    name, address = parseaddr(text)
    if not address or "@" not in address or any(char in text for char in "\r\n"):
        raise ValueError(
            "must be an address, or a name and an address: Carnet <mail@carnet.example>"
        )
    try:
        return Address(name, addr_spec=address)
    except Exception as error:  # the parser raises errors of several kinds
        raise ValueError("must contain an e-mail address") from error


class MailSettings(ServiceSettings):
    """How a service sends mail. Without `smtp_url` messages wait, and are parked after a day."""

    smtp_url: Annotated[
        SecretStr | None,
        AfterValidator(lambda url: url and _require_smtp_url(url)),
        BeforeValidator(_none_for_empty),
    ] = None
    """The SMTP server; see `SmtpServer`."""

    mail_from: Annotated[
        str | None,
        AfterValidator(lambda text: text and _require_sender(text)),
        BeforeValidator(_none_for_empty),
    ] = None
    """The sender: an address, or `name <address>`. Required with `smtp_url`."""

    public_url: Annotated[
        str | None,
        AfterValidator(lambda url: url and _require_public_url(url)),
        BeforeValidator(_none_for_empty),
    ] = None
    """The address at which users reach Carnet: links in messages begin with it. Required with
    `smtp_url`."""

    mail_secret: Annotated[SecretStr | None, BeforeValidator(_none_for_empty)] = Field(
        default=None, min_length=32
    )
    """Encrypts the contents of messages that wait; without it, `internal_key` does that."""

    @model_validator(mode="after")
    def _require_complete(self) -> "MailSettings":
        if self.smtp_url is not None and (self.mail_from is None or self.public_url is None):
            raise ValueError("SMTP_URL needs MAIL_FROM and PUBLIC_URL beside it")
        return self


def encryption_of(settings: MailSettings) -> MailEncryption:
    """Return the encryption of a service's messages."""
    return MailEncryption(settings.mail_secret or settings.internal_key)
