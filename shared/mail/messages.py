"""A message before it is rendered: who gets it, what it is about, and what is attached."""

from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MAX_ATTACHMENT_BYTES = 5_000_000
"""Of all attachments of one message together: many servers refuse messages above 10 MB."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that is sent with a message, such as `text/calendar; method=REQUEST`.

    A calendar part is added as an alternative of the text too, so that mail clients show it.
    """

    filename: str
    media_type: str
    content: bytes

    def as_json(self) -> dict[str, str]:
        """Return the form in which the queue stores it."""
        encoded = b64encode(self.content).decode()
        return {"filename": self.filename, "media_type": self.media_type, "content": encoded}

    @classmethod
    def from_json(cls, value: Mapping[str, str]) -> "Attachment":
        """Return the attachment that the queue has stored."""
        return cls(value["filename"], value["media_type"], b64decode(value["content"]))


@dataclass(frozen=True, slots=True)
class Letterhead:
    """In whose name a message is sent. Without a name it is sent in that of `MAIL_FROM`."""

    name: str | None = None
    logo_url: str | None = None
    """An https address. The recipient's mail client loads the picture."""
    reply_to: str | None = None
    timezone: str = "UTC"
    """The zone in which the message shows times."""


@dataclass(frozen=True, slots=True)
class Mail:
    """A message for one recipient.

    `template` names a file of the service's folder `mails`. `context` has its values: JSON without
    secrets or with them, because the queue stores it encrypted. Texts in it may come from users:
    they are shown, and never become a link. `links` has paths below `PUBLIC_URL` by name; the
    template gets whole addresses. `languages` are the preferred languages, the first one first.
    """

    template: str
    recipient: str
    context: Mapping[str, Any] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    languages: tuple[str | None, ...] = ()
    letterhead: Letterhead = field(default_factory=Letterhead)
    attachments: tuple[Attachment, ...] = ()
    organization_id: int | None = None
    user_id: int | None = None
    """The user whose message it is: it is deleted with the user's other personal data."""
