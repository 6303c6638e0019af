"""The page of an invoice: nothing is lost on it, and nothing runs off it."""

import io
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from pypdf import PageObject, PdfReader

from services.payments.documents import render
from services.payments.schemas import InvoiceRead
from services.payments.tests.signals import order

POINTS = 72 / 25.4
LEFT, RIGHT = 22 * POINTS, 188 * POINTS
MARK = "\N{BALLOT BOX}"


def page_of(**changes: Any) -> PageObject:
    """Return the first page of an invoice; `seller` is laid over the usual one."""
    seller = order()["seller"] | changes.pop("seller", {})
    description = changes.pop("description", "Ten sessions")
    total = changes.pop("total", Decimal("399.99"))
    invoice = {
        "id": 1,
        "organization_id": 7,
        "client_id": 70,
        "transaction_id": 1,
        "refund_id": None,
        "kind": "invoice",
        "number": "PRAXIS-2026-000001",
        "corrects_number": None,
        "issued_at": datetime(2026, 3, 1, tzinfo=UTC),
        "issue_date": date(2026, 3, 1),
        "currency": "USD",
        "total": total,
        "lines": [
            {"description": description, "quantity": 1, "unit_price": total, "amount": total}
        ],
        "payment_method": "cash",
        "seller": seller,
        "buyer": {"name": "Clara Client", "email": None},
    }
    written = render(InvoiceRead.model_validate(invoice | changes), None)
    return PdfReader(io.BytesIO(written)).pages[0]


def places(page: PageObject) -> dict[str, tuple[float, float]]:
    """Return where each piece of text begins, in points from the left and from below."""
    found: dict[str, tuple[float, float]] = {}

    def visit(text: str, _cm: Any, tm: list[float], _font: Any, _size: Any) -> None:
        if text.strip():
            found[text.strip()] = (tm[4], tm[5])

    page.extract_text(visitor_text=visit)
    return found


def test_a_name_is_not_the_number_of_pages() -> None:
    assert "Ten {nb} of {nb}" in page_of(description="Ten {nb} of {nb}").extract_text()


@pytest.mark.parametrize(
    ("currency", "total", "shown"),
    [
        ("JPY", "1234567.00", "JPY 1,234,567\n"),
        ("JPY", "100.50", "JPY 100.50\n"),
        ("USD", "1234567.00", "USD 1,234,567.00\n"),
    ],
)
def test_an_amount_has_the_decimals_of_its_currency(currency: str, total: str, shown: str) -> None:
    page = page_of(currency=currency, total=Decimal(total))
    assert f"Total {shown}" in page.extract_text().replace("  ", " ")


@pytest.mark.parametrize("word", ["W", "PRAXIS-"])
def test_a_long_number_stays_on_its_side_of_the_page(word: str) -> None:
    slug = (word * 80)[:80]
    page = page_of(number=f"{slug}-CN-2026-000001", corrects_number=f"{slug}-2026-000001")
    text = page.extract_text().replace("\n", "")
    assert f"{slug}-CN-2026-000001" in text
    assert f"{slug}-2026-000001" in text
    middle = LEFT + (RIGHT - LEFT) * 0.55
    shown = places(page)
    assert {x for part, (x, _) in shown.items() if part in slug} != set()
    assert all(x > middle for part, (x, _) in shown.items() if part in slug)


def test_a_long_footer_stays_on_the_page() -> None:
    seller = {"name": "Praxis " * 36, "address": "Main Street " * 20, "tax_id": "T" * 255}
    page = page_of(seller=seller)
    assert page.extract_text().count("T") >= 2 * 255, "above and below"
    assert all(y > 8 * POINTS for _, y in places(page).values())


def test_what_the_typeface_lacks_is_seen_to_be_missing() -> None:
    text = page_of(
        seller={"name": "東京 Praxis"},
        buyer={"name": "כהן", "email": None},
        description="Yoga \N{PERSON IN LOTUS POSITION}\N{VARIATION SELECTOR-16}, caf" + "e\u0301",
    ).extract_text()
    assert f"{MARK * 2} Praxis" in text
    assert f"{MARK * 3}\n" in text
    assert f"Yoga {MARK}, café" in text
    assert f"{MARK} stands for" in text
    assert MARK not in page_of().extract_text()
