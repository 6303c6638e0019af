"""What the README shows of `make demo` is what it prints."""

import re

import httpx
import pytest
from rich.console import Console

from deploy.api_client import CardGateway, Mailbox, Person
from deploy.demo.page import WIDTH, Page
from deploy.demo.story import Story
from deploy.local.system import CHECKOUT
from deploy.tests.stack.conftest import IN_ONE_PROCESS

pytestmark = [pytest.mark.anyio, IN_ONE_PROCESS]

LONG = 10**9
"""An id as long as those of a system that is in use for years."""
_ROW = re.compile(r"\d\d:\d\d:\d\d +(?P<action>[A-Z_]+) +(?P<entity>[a-z_]+) ")
_SLUG = re.compile(r"(seaside-practice|SEASIDE-PRACTICE)(-\w+)*")


def shown() -> list[str]:
    """The lines of the sample without the marks of omitted rows."""
    readme = (CHECKOUT / "README.md").read_text()
    sample = readme[readme.index("    1. The admin creates") : readme.index("(The middle of")]
    return [line.strip() for line in sample.splitlines() if line.strip() not in ("", "…")]


def steady(line: str) -> str:
    """Take out what differs from run to run: numbers, codes, parts of addresses, column widths."""
    row = _ROW.match(line)
    if row:
        return f"{row['action']} {row['entity']}"
    line = re.sub(r"-[0-9a-f]{8}@", "-…@", _SLUG.sub("PRACTICE", line))
    line = re.sub(r"^\w{8} is redeemed", "CODE is redeemed", line)
    return re.sub(r"\s+", " ", re.sub(r"\d+", "N", line))


async def test_the_readmes_sample_is_what_the_demo_prints(
    api: httpx.AsyncClient, cards: CardGateway, mailbox: Mailbox, admin: Person
) -> None:
    page = Page()
    page.console = Console(record=True, width=WIDTH, highlight=False)
    await Story(api, cards, mailbox, admin, page).run()
    printed = {steady(line.strip()) for line in page.console.export_text().splitlines()}
    assert len(shown()) > 40
    missing = [line for line in shown()[:-1] if steady(line) not in printed]
    assert missing == []


def test_only_the_changes_of_the_trail_are_cut_off() -> None:
    page = Page()
    page.console = Console(record=True, width=WIDTH, highlight=False)
    row = {
        "created_at": "2026-11-30T17:05:09.000000+00:00",
        "action": "REQUIRE_ACTION",
        "entity_type": "payment_transaction",
        "entity_id": LONG,
        "user_id": LONG,
        "ip_address": "127.0.0.1",
        "old_values": {"status": "processing"},
        "new_values": {"status": "requires_action"},
    }
    page.audit([row])
    [_, shown_row] = page.console.export_text().splitlines()
    whole = f"17:05:09 REQUIRE_ACTION payment_transaction {LONG} user {LONG} 127.0.0.1 status: "
    assert " ".join(shown_row.split()).startswith(whole)
    assert shown_row.rstrip().endswith("…")
