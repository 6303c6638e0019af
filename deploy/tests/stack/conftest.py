"""A whole running system for the end-to-end tests: every process, every server, one gateway."""

import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import asyncpg
import httpx
import pytest

from deploy.api_client import CardGateway, Mailbox, Person, unique
from deploy.demo.page import Page
from deploy.demo.story import Story
from deploy.local.settings import StackSettings
from deploy.local.stack import Stack, running_stack
from deploy.local.system import CHECKOUT
from deploy.tests.stack.tenancy.scene import Scene, open_scene

IN_ONE_PROCESS = pytest.mark.xdist_group("stack")
"""One machine carries one whole system: the tests that use it run in one test process."""


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
async def stack() -> AsyncIterator[Stack]:
    """The running system, with two instances of what sells."""
    folder = CHECKOUT / ".carnet" / "test-stack"
    shutil.rmtree(folder, ignore_errors=True)
    settings = StackSettings(data=folder, port=0, instances={"vouchers": 2, "payments": 2})
    async with running_stack(settings) as running:
        yield running


@pytest.fixture
async def api(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the gateway."""
    async with httpx.AsyncClient(base_url=stack.address, timeout=30) as client:
        yield client


@pytest.fixture
async def cards(stack: Stack) -> AsyncIterator[CardGateway]:
    """The card gateway as a customer's browser and an accountant see it."""
    system = stack.system
    auth = (system.stripe_api_key, "")
    async with httpx.AsyncClient(base_url=system.stripe_api_base, timeout=30, auth=auth) as client:
        yield CardGateway(client)


@pytest.fixture
def admin(api: httpx.AsyncClient, stack: Stack) -> Person:
    return Person(api, "Admin", stack.admin_email, stack.admin_password)


@pytest.fixture
def mailbox(stack: Stack) -> Mailbox:
    """The messages that the system has sent."""
    return mailbox_of(stack)


def mailbox_of(stack: Stack) -> Mailbox:
    assert stack.mailbox is not None
    return Mailbox(stack.mailbox.address)


@pytest.fixture
def story(api: httpx.AsyncClient, cards: CardGateway, mailbox: Mailbox, admin: Person) -> Story:
    return Story(api, cards, mailbox, admin, Page())


@pytest.fixture
async def shop(story: Story) -> Story:
    """An organization with an owner, a voucher type, a therapist and a client, all signed in."""
    await _open(story)
    return story


@pytest.fixture(scope="module")
async def shared_shop(stack: Stack) -> AsyncIterator[Story]:
    """Two organizations for all tests of a module that neither change nor count their rows."""
    auth = (stack.system.stripe_api_key, "")
    async with (
        httpx.AsyncClient(base_url=stack.address, timeout=30) as api,
        httpx.AsyncClient(base_url=stack.system.stripe_api_base, timeout=30, auth=auth) as cards,
    ):
        admin = Person(api, "Admin", stack.admin_email, stack.admin_password)
        story = Story(api, CardGateway(cards), mailbox_of(stack), admin, Page())
        await _open(story)
        yield story


async def _open(shop: Story) -> None:
    await shop.create_organization()
    await shop.create_voucher_type()
    await shop.admit_client()
    await shop.therapist.sign_in()
    await shop.other_owner.sign_in()


@pytest.fixture(scope="session")
async def scene(stack: Stack) -> AsyncIterator[Scene]:
    """Two organizations with signed-in users, and one object of each kind in the first."""
    async with open_scene(stack) as scene:
        yield scene


@dataclass(frozen=True)
class Rows:
    """What is really in the database, past every policy, as its administrator sees it."""

    url: str

    async def __call__(self, query: str, *arguments: Any) -> list[dict[str, Any]]:
        connection = await asyncpg.connect(self.url)
        try:
            return [dict(row) for row in await connection.fetch(query, *arguments)]
        finally:
            await connection.close()


@pytest.fixture
def rows(stack: Stack) -> Rows:
    return Rows(stack.system.database_url)


@pytest.fixture
def fresh_key() -> str:
    return unique("key")
