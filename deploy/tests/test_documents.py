"""Pages for readers: decisions have one form, and links lead to pages and headings that exist."""

import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from deploy.local.system import CHECKOUT

DECISIONS = CHECKOUT / "docs" / "decisions"
PAGES = sorted([*CHECKOUT.glob("*.md"), *CHECKOUT.glob("docs/**/*.md")])
RECORDS = sorted(DECISIONS.glob("[0-9]*.md"))
REQUIRED = ["Context", "Decision", "Alternatives rejected", "When to reconsider"]
SECTIONS = [*REQUIRED[:3], "Consequences", REQUIRED[3]]
"""In their order; consequences may be left out."""

_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_HEAD = re.compile(
    r"# (?P<number>\d{4}) (?P<title>\S.*)\n\n"
    r"- Status: (?P<status>proposed|accepted|amended|superseded)\n"
    r"- Date: (?P<date>\d{4}-\d\d-\d\d)\n"
    r"(- (?P<later>Amended|Superseded): \d{4}-\d\d-\d\d.*\n(?:  \S.*\n)*)?\n"
)
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_LINK = re.compile(r"\]\((?!https?:)(?P<path>[^)#\s]*)(#(?P<anchor>[^)\s]+))?\)")


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub makes of a page's headings."""
    headings = _HEADING.findall(page.read_text())
    return {re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-") for title in headings}


def broken_links(page: Path) -> Iterator[str]:
    """Yield the links of a page to files or headings that do not exist."""
    for link in _LINK.finditer(_COMMENT.sub("", page.read_text())):
        target = page.parent / link["path"] if link["path"] else page
        if not target.exists() or (link["anchor"] and link["anchor"] not in anchors(target)):
            yield link[0]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(CHECKOUT).as_posix())
def test_every_link_leads_somewhere(page: Path) -> None:
    assert list(broken_links(page)) == []


@pytest.mark.parametrize("page", RECORDS, ids=lambda page: page.stem)
def test_a_decision_has_status_date_and_sections(page: Path) -> None:
    text = page.read_text()
    head = _HEAD.match(text)
    assert head is not None, "the head is not that of docs/decisions/template.md"
    assert head["number"] == page.name[:4]
    date.fromisoformat(head["date"])
    assert head["later"] == {"amended": "Amended", "superseded": "Superseded"}.get(head["status"])
    sections = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert [name for name in sections if name in REQUIRED] == REQUIRED
    assert sections == [name for name in SECTIONS if name in sections]


def test_the_index_has_every_decision_once() -> None:
    linked = re.findall(
        r"^\| \[\d{4}\]\((\S+?)\)", (DECISIONS / "README.md").read_text(), re.MULTILINE
    )
    assert linked == [page.name for page in RECORDS]


def test_the_template_has_the_sections_of_a_decision() -> None:
    template = (DECISIONS / "template.md").read_text()
    assert re.findall(r"^## (.+)$", template, re.MULTILINE) == SECTIONS
