"""The page of an invoice: nothing is lost on it, and nothing runs off it."""

import io
import re
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from unicodedata import category, normalize

import pytest
from fontTools.ttLib import TTFont
from pypdf import PageObject, PdfReader
from pypdf.generic import ContentStream

from services.payments.documents.pdf import render
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


def fonts_of(page: PageObject) -> dict[str, Any]:
    resources: Any = page["/Resources"]
    return {name: font.get_object() for name, font in resources["/Font"].items()}


def glyphs_of_codes(font: Any) -> Callable[[int], int]:
    """Return how codes become glyphs: by a map, or by a CMap where the font is CFF."""
    [descendant] = font["/DescendantFonts"]
    if "/CIDToGIDMap" in descendant.get_object():
        table = descendant.get_object()["/CIDToGIDMap"].get_object().get_data()
        return lambda code: int.from_bytes(table[2 * code : 2 * code + 2], "big")
    cmap = font["/Encoding"].get_object().get_data().decode()
    cids = {int(code, 16): int(cid) for code, cid in re.findall(r"<(\w{4})> (\d+)\n", cmap)}
    return lambda code: cids[code]


def glyphs(page: PageObject) -> list[tuple[str, int]]:
    """Return each glyph that is drawn: the name of its font and its number there."""
    drawn: list[tuple[str, int]] = []
    maps = {name: glyphs_of_codes(font) for name, font in fonts_of(page).items()}
    names = {name: str(font["/BaseFont"]) for name, font in fonts_of(page).items()}
    font, outer = "", [""]
    for operands, operator in ContentStream(page.get_contents(), page.pdf).operations:
        if operator == b"Tf":
            font = str(operands[0])
        elif operator == b"q":
            outer.append(font)
        elif operator == b"Q":
            font = outer.pop()
        elif operator == b"Tj":
            raw = operands[0].original_bytes
            codes = [int.from_bytes(raw[at : at + 2], "big") for at in range(0, len(raw), 2)]
            drawn += [(names[font], maps[font](code)) for code in codes]
    return drawn


SCRIPTS = {
    "Arabic": "عيادة مُحَمَّد الخالد",
    "Armenian": "Արմեն Պետրոսյան",
    "Bengali": "তানভীর হোসেন",
    "Chinese": "上海瑜伽工作室 王小明",
    "Devanagari": "श्री योग केंद्र क्षत्रिय ₹",
    "Emoji": "Yoga \N{PERSON IN LOTUS POSITION}\N{EMOJI MODIFIER FITZPATRICK TYPE-4}"
    "\N{ZERO WIDTH JOINER}\N{FEMALE SIGN}\N{VARIATION SELECTOR-16}",
    "Ethiopic": "አበበ ቢቂላ",
    "Georgian": "ნინო ბერიძე",
    "Hebrew": "דָּוִד כהן",
    "Japanese": "東京ヨガ教室「山田」",
    "Khmer": "សុខ ភារម្យ កើត",
    "Korean": "김민수 요가",
    "Lao": "ເພັງສະຫວັນ ນ້ຳ",
    "Myanmar": "အောင်ဆန်း မြန်မာ",
    "Persian": "می\N{ZERO WIDTH NON-JOINER}خواهم",
    "Sinhala": "ශ්\N{ZERO WIDTH JOINER}රී ලංකා",
    "Tamil": "தமிழ் யோகா",
    "Telugu": "తెలుగు యోగా",
    "Thai": "น้ำทิพย์ บำบัด",
    "Vietnamese": "Nguyễn Thị Hương",
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_names_of_every_script_are_drawn_whole(script: str) -> None:
    name = SCRIPTS[script]
    page = page_of(
        seller={"name": name, "address": f"{name} 5\n{name}"},
        buyer={"name": name, "email": None},
        description=name,
    )
    text = page.extract_text()
    assert MARK not in text
    assert [glyph for glyph in glyphs(page) if glyph[1] == 0] == []
    letters = Counter(char for char in normalize("NFC", name) if category(char)[0] == "L")
    # Heading, address, buyer, description and the footer.
    missing = Counter({char: 5 * times for char, times in letters.items()})
    missing.subtract(normalize("NFC", text))
    assert [char for char, times in missing.items() if times > 0] == []


def test_an_ordinary_document_has_its_own_typeface_alone() -> None:
    page = page_of(seller={"name": "Grüße & Żółw, Ελλάδα, Мария"})
    names = {str(font["/BaseFont"]).partition("+")[2] for font in fonts_of(page).values()}
    assert names == {"SourceSansPro", "SourceSansProBold"}


def test_letters_join_across_their_marks() -> None:
    """Vowel signs belong to no script of their own: they must not end the run of a word."""
    plain, pointed = (
        page_of(buyer={"name": "محمد", "email": None}),
        page_of(buyer={"name": "مُحَمَّد", "email": None}),
    )
    drawn = [sum(name.endswith("Arabic") for name, _ in glyphs(page)) for page in (plain, pointed)]
    forms = [
        {glyph for font in fonts_of(page).values() for glyph in _outlines(font)}
        for page in (plain, pointed)
    ]
    assert drawn == [4, 8]
    assert forms[0] <= forms[1], "the pointed word has the same joined letters"


def _outlines(font: Any) -> list[bytes]:
    """Return the outlines of a fallback font's glyphs."""
    if not str(font["/BaseFont"]).endswith("Arabic"):
        return []
    descriptor = font["/DescendantFonts"][0].get_object()["/FontDescriptor"]
    table = TTFont(io.BytesIO(descriptor["/FontFile2"].get_object().get_data()))
    return [
        bytes(str(table["glyf"][name].getCoordinates(table["glyf"])[0]), "ascii")
        for name in table.getGlyphOrder()
        if name not in (".notdef", "space") and table["glyf"][name].numberOfContours
    ]


def order_of(line: str, *words: str) -> list[str]:
    """Return words in their order on a line from the left."""
    return sorted(words, key=line.index)


def test_numbers_stay_in_their_place_between_words_from_right_to_left() -> None:
    text = page_of(
        buyer={"name": "Praxis שלום 123 עולם", "email": None},
        description="שיעור 60 דקות Yoga",
    ).extract_text()
    [name] = [line for line in text.splitlines() if "שלום" in line]
    assert order_of(name, "Praxis", "שלום", "123", "עולם") == ["Praxis", "עולם", "123", "שלום"]
    [lesson] = [line for line in text.splitlines() if "שיעור" in line]
    assert order_of(lesson, "Yoga", "דקות", "60", "שיעור") == ["Yoga", "דקות", "60", "שיעור"]
    assert "399.99 399.99" in lesson


def test_one_line_of_an_address_does_not_turn_the_next() -> None:
    text = page_of(seller={"name": "כהן", "address": "רחוב הרצל\n5 Main Street"}).extract_text()
    assert "\n5 Main Street\n" in text
    [footer] = [line for line in text.splitlines() if " · " in line]
    assert order_of(footer, "כהן", "הרצל", "5 Main Street", "office@") == [
        "כהן",
        "הרצל",
        "5 Main Street",
        "office@",
    ]


@pytest.mark.parametrize(
    "text",
    ["ヨガと瞑想の個人セッション十回券" * 5, "คอร์สโยคะสิบครั้งสำหรับผู้เริ่มต้น" * 5, "علاج طبيعي " * 20],
)
def test_long_text_stays_in_its_column(text: str) -> None:
    page = page_of(description=text)
    lines = page.extract_text().split("Amount (USD)")[1].split("Total")[0].strip().splitlines()
    assert len(lines) >= 3
    assert all(LEFT - 1 <= x <= RIGHT for x, _ in places(page).values())


def test_the_size_of_a_page_is_that_of_its_text() -> None:
    written = page_of(seller={"name": "東京ヨガ教室"}, description="עשר פגישות \N{SNOWMAN}").pdf
    assert written is not None
    fonts = [
        font["/DescendantFonts"][0].get_object()["/FontDescriptor"]
        for font in fonts_of(written.pages[0]).values()
    ]
    files = [font.get("/FontFile2") or font.get("/FontFile3") for font in fonts]
    assert all(len(file.get_object().get_data()) < 20_000 for file in files)


def test_what_no_typeface_has_is_seen_to_be_missing() -> None:
    text = page_of(
        seller={"name": "\N{TIBETAN LETTER KA}\N{TIBETAN LETTER KHA} Praxis"},
        buyer={"name": "\ue000", "email": None},
        description="Yoga \N{PERSON IN LOTUS POSITION}\N{VARIATION SELECTOR-16}, caf" + "e\u0301",
    ).extract_text()
    assert f"{MARK * 2} Praxis" in text
    assert f"{MARK}\n" in text
    assert "Yoga \N{PERSON IN LOTUS POSITION}, café" in text
    assert f"{MARK} stands for" in text
    assert MARK not in page_of().extract_text()
