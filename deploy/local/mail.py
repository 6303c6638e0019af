"""Where a local stack sends mail: to the user's own server, or to the mailbox beside it.

The folder `mailbox` is in no image; nothing here imports it.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.local.supervisor import Program, own_environment

STATE_FILE = "mailbox.sqlite"
DEFAULT_SENDER = "Carnet <carnet@localhost>"
SERVICES_WITH_MAIL = ("identity", "vouchers", "payments")


@dataclass(frozen=True)
class MailServer:
    """An SMTP server, and the sender and the public address of the messages."""

    smtp_url: str
    mail_from: str
    public_url: str

    def variables(self, secret: str) -> Mapping[str, str]:
        """Return the settings of a service that sends mail, without their prefix."""
        return {
            "SMTP_URL": self.smtp_url,
            "MAIL_FROM": self.mail_from,
            "PUBLIC_URL": self.public_url,
            "MAIL_SECRET": secret,
        }


@dataclass(frozen=True)
class LocalMailbox:
    """The ports of the mailbox on 127.0.0.1."""

    smtp_port: int
    page_port: int

    @property
    def smtp_url(self) -> str:
        """The address for SMTP."""
        return f"smtp://127.0.0.1:{self.smtp_port}"

    @property
    def address(self) -> str:
        """The address of the page."""
        return f"http://127.0.0.1:{self.page_port}"

    def program(self, folder: Path) -> Program:
        """Describe the process, which stores its messages in `folder`."""
        return Program(
            name="mailbox",
            command=(
                *(sys.executable, "-m", "deploy.local.mailbox"),
                *("--smtp-port", str(self.smtp_port)),
                *("--port", str(self.page_port)),
                *("--state", str(folder / STATE_FILE)),
            ),
            environment=own_environment(),
            directory=folder,
        )
