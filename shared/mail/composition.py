"""Composes the e-mail (RFC 5322) of a rendered message."""

from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage, Message
from email.policy import SMTP
from email.utils import format_datetime
from uuid import UUID

from shared.mail.messages import Attachment, Mail
from shared.mail.rendering import RenderedMail

CALENDAR = "text/calendar"


def message_id(key: UUID, sender: Address) -> str:
    """Return the Message-ID of a row: a message that is sent again is the same one."""
    return f"<{key}@{sender.domain}>"


def compose(
    mail: Mail, rendered: RenderedMail, *, sender: Address, key: UUID, moment: datetime
) -> EmailMessage:
    """Return the e-mail. `moment` is when it was queued.

    Raises ValueError for a recipient that is no address.
    """
    message = EmailMessage(policy=SMTP)
    name = rendered.sender_name or sender.display_name
    message["From"] = Address(name, addr_spec=sender.addr_spec)
    message["To"] = _address(mail.recipient)
    if mail.letterhead.reply_to:
        message["Reply-To"] = _address(mail.letterhead.reply_to)
    message["Subject"] = rendered.subject
    message["Date"] = format_datetime(moment)
    message["Message-ID"] = message_id(key, sender)
    # RFC 3834: no program must answer it, neither with an absence notice.
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(rendered.text, cte="quoted-printable")
    message.add_alternative(rendered.html, subtype="html", cte="quoted-printable")
    for attachment in mail.attachments:
        if attachment.media_type.startswith(CALENDAR):
            _add_calendar(message, attachment)
    for attachment in mail.attachments:
        _attach(message, attachment)
    # At the end, because adding a part moves such headers into the first one.
    message["Content-Language"] = rendered.language.replace("_", "-")
    return message


def _address(text: str) -> Address:
    """Return an address without a name. Raises ValueError."""
    try:
        return Address(addr_spec=text)
    except Exception as error:  # the parser raises errors of several kinds
        raise ValueError("the recipient or the address for answers is no e-mail address") from error


def _add_calendar(message: EmailMessage, attachment: Attachment) -> None:
    """Add a calendar part as an alternative, so that mail clients show it (RFC 6047)."""
    _, parameters = _media_type(attachment.media_type)
    text = attachment.content.decode()
    message.add_alternative(text, subtype="calendar", params=parameters, cte="base64")


def _attach(message: EmailMessage, attachment: Attachment) -> None:
    kind, parameters = _media_type(attachment.media_type)
    maintype, _, subtype = kind.partition("/")
    message.add_attachment(
        attachment.content,
        maintype=maintype,
        subtype=subtype,
        filename=attachment.filename,
        params=parameters,
    )


def _media_type(text: str) -> tuple[str, dict[str, str]]:
    """Return a media type and its parameters but the charset, which the library sets itself."""
    header = Message()
    header["Content-Type"] = text
    parameters = dict(header.get_params(failobj=[])[1:])
    parameters.pop("charset", None)
    return header.get_content_type(), parameters
