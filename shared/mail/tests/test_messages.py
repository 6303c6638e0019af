"""What a message looks like: both parts, languages, attachments, and texts of users in it."""

import re
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from html.parser import HTMLParser
from uuid import uuid4

import pytest
from pydantic import SecretStr

from shared.mail.composition import compose
from shared.mail.encryption import MailEncryption, UnreadableContent
from shared.mail.languages import Languages
from shared.mail.messages import Attachment, Letterhead, Mail
from shared.mail.rendering import RenderedMail, Renderer
from shared.mail.settings import SmtpServer, sender_of
from shared.mail.tests import sample
from shared.mail.untrusted_text import JOINER, neutral

RENDERER = Renderer(sample.PACKAGE, "https://carnet.example/")
SENDER = Address("Carnet", addr_spec="mail@carnet.example")
MOMENT = datetime(2026, 12, 1, 14, 5, tzinfo=UTC)
VALUES = {
    "name": "Ann",
    "since": "2026-12-01T14:05:00+00:00",
    "price": {"amount": "1234.50", "currency": "EUR"},
    "until": "2027-01-31",
}
LINKS = {"start": "/start#token-4711"}


def greeting(**changes: object) -> Mail:
    fields: dict[str, object] = {"context": VALUES, "links": LINKS} | changes
    return Mail("greeting", "ann@example.org", **fields)  # type: ignore[arg-type]


def composed(mail: Mail) -> EmailMessage:
    return compose(mail, RENDERER.render(mail), sender=SENDER, key=uuid4(), moment=MOMENT)


class Page(HTMLParser):
    """The texts and links of an HTML part, as a mail client reads it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.links: list[str | None] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value for name, value in attrs if name in ("href", "src")]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def addresses_in(rendered: RenderedMail) -> set[str | None]:
    """Return everything that a mail client shows as a link."""
    page = Page(re.sub(r"<style>.*</style>", "", rendered.html, flags=re.DOTALL))
    shown = f"{rendered.text} {' '.join(page.texts)}"
    return {*re.findall(r"(?:\w+://|\bwww\.|[\w-]+\.(?=[a-z]))\S*", shown), *page.links}


def test_the_text_part_reads_well() -> None:
    rendered = RENDERER.render(greeting(letterhead=Letterhead(name="Praxis am See")))
    assert rendered.subject == "Welcome, Ann"
    assert rendered.text == (
        "Praxis am See\n\nWelcome, Ann\n\n"
        "You have been with us since December 1, 2026, 2:05\u202fPM UTC.\n\n"
        "Price: €1,234.50\nValid until: January 31, 2027\n\n"
        "Start:\nhttps://carnet.example/start#token-4711\n\n"
        "-- \nPraxis am See uses Carnet: https://carnet.example\n"
    )


def test_the_html_part_has_inline_styles_and_a_dark_mode() -> None:
    html = RENDERER.render(greeting()).html
    assert '<html lang="en">' in html
    assert re.search(r'<a class="button"[^>]*style="[^"]*background: #1d4ed8', html)
    assert "prefers-color-scheme: dark" in html
    assert "https://carnet.example/start#token-4711" in html


@pytest.mark.parametrize(
    ("preferred", "language"),
    [
        pytest.param((), "en", id="none"),
        pytest.param(("de",), "de", id="German"),
        pytest.param(("de-AT",), "de", id="a country's German"),
        pytest.param((None, "de"), "de", id="the organization's"),
        pytest.param(("en", "de"), "en", id="the user's first"),
        pytest.param(("xx", "not a language", "de"), "de", id="unknown ones first"),
        pytest.param(("fr",), "en", id="no catalogue"),
    ],
)
def test_the_first_language_that_exists_is_used(
    preferred: tuple[str | None, ...], language: str
) -> None:
    assert Languages(sample.PACKAGE).choose(preferred) == language


def test_a_message_in_german_is_german_throughout() -> None:
    rendered = RENDERER.render(
        greeting(languages=("de-AT",), letterhead=Letterhead(timezone="Europe/Vienna"))
    )
    assert (rendered.language, rendered.subject) == ("de", "Willkommen, Ann")
    assert "1. Dezember 2026, 15:05 MEZ" in rendered.text
    assert "Preis: €\xa01.234,50" in rendered.text
    assert "Starten:" in rendered.text
    assert '<html lang="de">' in rendered.html


@pytest.mark.parametrize(
    "name",
    [
        "Visit http://evil.example/login now",
        "www.evil.example",
        "evil.example",
        "bank\u200b.evil.example",
        "evil\u3002example",
        "mail eve@evil.example",
        'Ann"><a href="https://evil.example">click</a>',
        "Ann\r\nhttps://evil.example",
        "\u202egro.elpmaxe.live",
    ],
)
def test_a_name_never_becomes_a_link(name: str) -> None:
    mail = greeting(context={**VALUES, "name": name}, letterhead=Letterhead(name=name))
    assert addresses_in(RENDERER.render(mail)) == {
        "https://carnet.example",
        "https://carnet.example/start#token-4711",
    }


def test_every_link_goes_to_the_address_that_it_shows() -> None:
    html = RENDERER.render(greeting()).html
    links = re.findall(r'<a [^>]*href="([^"]*)"[^>]*>([^<]*)</a>', html)
    assert len(links) == 2
    assert all(href.startswith("https://carnet.example/") for href, _ in links)
    assert all(text == href for href, text in links if "://" in text)


@pytest.mark.parametrize(
    "name", ["Ann\r\nBcc: eve@example.org", "Ann\nBcc: eve", "A\x00\x0b\u2028nn", "Ann" * 2000]
)
def test_a_name_adds_no_header(name: str) -> None:
    mail = greeting(context={**VALUES, "name": name}, letterhead=Letterhead(name=name))
    message = composed(mail)
    text = message.as_string()
    assert not re.search(r"^Bcc", text, re.MULTILINE)
    assert len(message["Subject"]) <= 150
    assert message["From"].addresses[0].addr_spec == "mail@carnet.example"


@pytest.mark.parametrize(
    "recipient",
    ["ann@example.org\nBcc: eve@example.org", "ann@example.org, eve@example.org", "ann"],
)
def test_a_recipient_is_one_address(recipient: str) -> None:
    rendered = RENDERER.render(greeting())
    mail = Mail("greeting", recipient)
    with pytest.raises(ValueError, match=r"no e-mail address"):
        compose(mail, rendered, sender=SENDER, key=uuid4(), moment=MOMENT)


def test_the_headers() -> None:
    mail = greeting(letterhead=Letterhead("Praxis am See", reply_to="office@praxis.example"))
    message = composed(mail)
    assert message["From"] == "Praxis am See <mail@carnet.example>"
    assert message["Reply-To"] == "office@praxis.example"
    assert message["To"] == "ann@example.org"
    assert message["Date"].datetime == MOMENT
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Content-Language"] == "en"
    assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "text/html"]


@pytest.mark.parametrize(
    ("url", "is_shown"),
    [("https://praxis.example/logo.png", True), ("http://x/logo.png", False), ("data:x", False)],
)
def test_a_logo_is_loaded_by_https_only(url: str, is_shown: bool) -> None:
    html = RENDERER.render(greeting(letterhead=Letterhead("Praxis", logo_url=url))).html
    assert (url in html) is is_shown


def test_attachments_are_part_of_the_message() -> None:
    calendar = b"BEGIN:VCALENDAR\r\nMETHOD:REQUEST\r\nEND:VCALENDAR\r\n"
    message = composed(
        greeting(
            attachments=(
                Attachment("voucher.pdf", "application/pdf", b"%PDF-1.7"),
                Attachment("invite.ics", "text/calendar; method=REQUEST; charset=utf-8", calendar),
            )
        )
    )
    assert message.get_content_type() == "multipart/mixed"
    pdf, invite = message.iter_attachments()
    assert (pdf.get_filename(), pdf.get_content()) == ("voucher.pdf", b"%PDF-1.7")
    assert invite["Content-Type"].params["method"] == "REQUEST"
    alternatives = next(message.iter_parts())
    kinds = [part.get_content_type() for part in alternatives.iter_parts()]
    assert kinds == ["text/plain", "text/html", "text/calendar"]
    part = list(alternatives.iter_parts())[-1]
    assert part["Content-Type"].params["method"] == "REQUEST"
    assert part.get_content().splitlines() == calendar.decode().splitlines()


def test_a_content_belongs_to_its_message_and_its_secret() -> None:
    encryption = MailEncryption(SecretStr("one secret"))
    key = uuid4()
    encrypted = encryption.encrypt({"link": "token-4711"}, key)
    assert "4711" not in encrypted
    assert encryption.decrypt(encrypted, key) == {"link": "token-4711"}
    with pytest.raises(UnreadableContent):
        encryption.decrypt(encrypted, uuid4())
    with pytest.raises(UnreadableContent):
        MailEncryption(SecretStr("another")).decrypt(encrypted, key)


def test_a_neutral_text_reads_as_before() -> None:
    assert neutral("Dr. Ann O'Neill-Müller") == "Dr. Ann O'Neill-Müller"
    assert neutral("a.b").replace(JOINER, "") == "a.b"
    assert len(neutral("x" * 500)) == 200


@pytest.mark.parametrize(
    "url",
    ["http://host", "smtp://", "smtp://user@host", "smtp://host/path", "smtps://host:99999"],
)
def test_a_wrong_server_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r".") as error:
        SmtpServer.of_url(url)
    assert "@host" not in str(error.value).replace("password@host", "")


def test_a_server_is_read_from_its_address() -> None:
    server = SmtpServer.of_url("smtp://ann%40x:p%2Fw@mail.example")
    assert (server.host, server.port, server.user, server.password) == (
        "mail.example",
        587,
        "ann@x",
        "p/w",
    )
    assert "p/w" not in repr(server)
    assert SmtpServer.of_url("smtps://mail.example").port == 465
    assert SmtpServer.of_url("smtp://127.0.0.1:25").is_local


@pytest.mark.parametrize("text", ["", "Carnet", "Carnet <>", "a@b\r\nBcc: c@d", "<a@b@c>"])
def test_a_wrong_sender_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must"):
        sender_of(text)
