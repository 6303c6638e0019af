"""The mailbox receives by SMTP and shows what it has received, to people and to scripts."""

from collections.abc import AsyncIterator
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path

import aiosmtplib
import httpx
import pytest

from deploy.local.errors import StartError
from deploy.local.mail import LocalMailbox
from deploy.local.mailbox.store import MessageStore
from deploy.local.ports import Ports
from deploy.local.settings import StackSettings
from deploy.local.supervisor import Supervisor
from deploy.local.system import CHECKOUT
from shared.testing import until

pytestmark = pytest.mark.anyio


@pytest.fixture
async def mailbox(tmp_path: Path, supervisor: Supervisor) -> LocalMailbox:
    ports = Ports(tmp_path / "ports.json")
    mailbox = LocalMailbox(ports.choose("mailbox smtp"), ports.choose("mailbox"))
    await supervisor.start(mailbox.program(tmp_path))
    return mailbox


@pytest.fixture
async def page(mailbox: LocalMailbox) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=mailbox.address) as client:

        async def is_up() -> bool:
            try:
                return (await client.get("/messages.json")).status_code == 200
            except httpx.TransportError:
                return False

        await until(is_up)
        yield client


def message(subject: str, to: str = "ann@example.org") -> EmailMessage:
    content = EmailMessage(policy=SMTP)
    content["From"] = "Carnet <carnet@localhost>"
    content["To"] = to
    content["Subject"] = subject
    content.set_content("Open https://carnet.example/reset#token-1 now.\n")
    content.add_alternative("<p>Hello</p><script>alert(1)</script>", subtype="html")
    content.add_attachment(b"%PDF", maintype="application", subtype="pdf", filename="v.pdf")
    return content


async def send(mailbox: LocalMailbox, *messages: EmailMessage) -> None:
    for content in messages:
        await aiosmtplib.send(content, hostname="127.0.0.1", port=mailbox.smtp_port)


async def test_scripts_read_the_messages_to_an_address(
    mailbox: LocalMailbox, page: httpx.AsyncClient
) -> None:
    await send(mailbox, message("one"), message("two", "bob@example.org"), message("three"))
    answer = (await page.get("/messages.json", params={"to": "Ann@example.org"})).json()
    assert [found["subject"] for found in answer["messages"]] == ["three", "one"]
    newest = answer["messages"][0]
    assert (newest["to"], newest["from"]) == ("ann@example.org", "Carnet <carnet@localhost>")
    assert newest["links"] == ["https://carnet.example/reset#token-1"]
    assert newest["html"].startswith("<p>Hello</p>")
    [attachment] = newest["attachments"]
    assert (await page.get(attachment["path"])).content == b"%PDF"
    everything = (await page.get("/messages.json")).json()
    assert len(everything["messages"]) == 3


async def test_people_see_html_text_and_source(
    mailbox: LocalMailbox, page: httpx.AsyncClient
) -> None:
    await send(mailbox, message("<b>bold</b>"))
    listing = (await page.get("/")).text
    assert "&lt;b&gt;bold&lt;/b&gt;" in listing
    html = (await page.get("/messages/1")).text
    assert "sandbox=" in html
    assert "<script>" not in html
    text = (await page.get("/messages/1", params={"view": "text"})).text
    assert "https://carnet.example/reset#token-1" in text
    source = (await page.get("/messages/1", params={"view": "source"})).text
    assert "Content-Type: multipart/mixed" in source
    assert (await page.get("/messages/2")).status_code == 404


async def test_the_html_of_a_message_runs_no_script(
    mailbox: LocalMailbox, page: httpx.AsyncClient
) -> None:
    await send(mailbox, message("one"))
    answer = await page.get("/messages/1/html")
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("sandbox")
    assert "allow-scripts" not in policy
    assert "default-src 'none'" in policy


async def test_another_sites_name_is_refused(page: httpx.AsyncClient) -> None:
    answer = await page.get("/messages.json", headers={"Host": "evil.example"})
    assert answer.status_code == 400


async def test_messages_survive_a_restart(
    mailbox: LocalMailbox, page: httpx.AsyncClient, supervisor: Supervisor
) -> None:
    await send(mailbox, message("one"))
    supervisor.kill("mailbox")
    await supervisor.wait_for_start("mailbox", 2)

    async def is_there() -> bool:
        try:
            return len((await page.get("/messages.json")).json()["messages"]) == 1
        except httpx.TransportError:
            return False

    await until(is_there)


def test_only_the_newest_messages_are_stored() -> None:
    store = MessageStore(":memory:", most_messages=3)
    for number in range(5):
        store.add("Ann@example.org", "2026-12-01T00:00:00+00:00", b"%d" % number)
    assert [m.source for m in store.list_messages("ann@example.org", 10)] == [b"4", b"3", b"2"]
    store.close()


def test_the_mailbox_is_in_no_image() -> None:
    lines = (CHECKOUT / ".dockerignore").read_text().splitlines()
    assert "deploy/local/mailbox" in lines
    assert lines.index("deploy/local/mailbox") > lines.index("!deploy")
    dependencies = (CHECKOUT / "requirements.lock").read_text()
    assert "aiosmtpd" not in dependencies


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({"CARNET_SMTP_URL": "http://host"}, "CARNET_SMTP_URL must be smtp://"),
        ({"CARNET_SMTP_URL": "smtp://host"}, "CARNET_MAIL_FROM is not"),
        ({"CARNET_PUBLIC_URL": "carnet.example"}, "CARNET_PUBLIC_URL is not an address"),
    ],
    ids=["scheme", "sender", "public address"],
)
def test_wrong_settings_are_reported(
    tmp_path: Path, variables: dict[str, str], problem: str
) -> None:
    with pytest.raises(StartError) as error:
        StackSettings.from_environment({"CARNET_DATA": str(tmp_path), **variables})
    assert problem in error.value.problem
