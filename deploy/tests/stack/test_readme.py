"""What the README shows of `make demo` is what it prints."""

import re

import httpx
import pytest
from rich.console import Console

from deploy.demo.client import CardGateway, Person
from deploy.demo.page import WIDTH, Page
from deploy.demo.story import Story
from deploy.local.system import CHECKOUT
from deploy.tests.stack.conftest import IN_ONE_PROCESS

pytestmark = [pytest.mark.anyio, IN_ONE_PROCESS]

_ROW = re.compile(r"\d\d:\d\d:\d\d +(?P<action>[A-Z_]+) +(?P<entity>[a-z_]+) ")
_SLUG = re.compile(r"(seaside-practice|SEASIDE-PRACTICE)(-\w+)*")


def shown() -> list[str]:
    """The lines of the sample, without what stands for left out rows."""
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
    api: httpx.AsyncClient, cards: CardGateway, admin: Person
) -> None:
    page = Page()
    page.console = Console(record=True, width=WIDTH, highlight=False)
    await Story(api, cards, admin, page).tell()
    printed = {steady(line.strip()) for line in page.console.export_text().splitlines()}
    assert len(shown()) > 40
    missing = [line for line in shown()[:-1] if steady(line) not in printed]
    assert missing == []
