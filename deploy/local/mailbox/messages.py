"""A stored message as the page and scripts read it."""

import re
from dataclasses import dataclass
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

from deploy.local.mailbox.store import StoredMessage

_ADDRESS = re.compile(r"https?://[^\s<>\"]+")


@dataclass(frozen=True, slots=True)
class Part:
    """An attachment."""

    filename: str
    content_type: str
    content: bytes


class ParsedMessage:
    """The parts and headers of a stored message."""

    def __init__(self, stored: StoredMessage) -> None:
        self.stored = stored
        parsed = message_from_bytes(stored.source, policy=default)
        assert isinstance(parsed, EmailMessage)
        self._message = parsed

    @property
    def subject(self) -> str:
        """The subject."""
        return str(self._message["Subject"] or "")

    @property
    def sender(self) -> str:
        """The header From."""
        return str(self._message["From"] or "")

    @property
    def text(self) -> str:
        """The text part, or an empty text."""
        return self._body("plain")

    @property
    def html(self) -> str:
        """The HTML part, or an empty text."""
        return self._body("html")

    @property
    def source(self) -> str:
        """The message as it was received."""
        return self.stored.source.decode(errors="replace")

    def attachments(self) -> list[Part]:
        """Return the attachments."""
        return [
            Part(
                part.get_filename() or f"part-{number}",
                part.get_content_type(),
                bytes(part.get_payload(decode=True) or b""),
            )
            for number, part in enumerate(self._message.iter_attachments(), start=1)
        ]

    def as_json(self) -> dict[str, Any]:
        """Return everything that a script needs."""
        return {
            "id": self.stored.id,
            "to": self.stored.recipient,
            "received_at": self.stored.received_at,
            "from": self.sender,
            "subject": self.subject,
            "headers": {name: str(value) for name, value in self._message.items()},
            "text": self.text,
            "html": self.html,
            "links": list(dict.fromkeys(_ADDRESS.findall(self.text))),
            "attachments": [
                {
                    "filename": part.filename,
                    "content_type": part.content_type,
                    "size": len(part.content),
                    "path": f"/messages/{self.stored.id}/attachments/{number}",
                }
                for number, part in enumerate(self.attachments())
            ],
        }

    def _body(self, kind: str) -> str:
        part = self._message.get_body((kind,))
        return str(part.get_content()) if part is not None else ""
