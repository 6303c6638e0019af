"""Invoices and credit notes as PDF pages that an organization sends to its clients."""

from collections.abc import Sequence
from decimal import Decimal
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import cast

from fpdf.enums import MethodReturnValue, XPos, YPos

from services.payments.documents.shaping import MARK, ShapedPage
from services.payments.gateways import smallest_unit
from services.payments.models import InvoiceKind
from services.payments.schemas import InvoiceRead

_FONT = "Source Sans Pro"
_MARGIN = 22.0
_WIDTH = 210.0 - 2 * _MARGIN
_COLUMNS = (0.55, 0.10, 0.175, 0.175)
_DARK, _GREY, _RULE = (33, 37, 41), (108, 117, 125), (206, 212, 218)
_LOGO_WIDTH, _LOGO_HEIGHT = 55.0, 22.0
_FOOTER_SIZE = 8.0
_ABOVE_FOOTER, _BELOW_FOOTER = 10.0, 12.0
_EXPLANATION = (
    f"{MARK} stands for a character that the typefaces of this page lack."
    " The document's data (JSON) has all of them."
)
_METHODS = {
    "credit_card": "card",
    "bank_transfer": "bank transfer",
    "cash": "cash",
    "other": "other means",
}


def render(invoice: InvoiceRead, logo: bytes | None) -> bytes:
    """Return the document as PDF. `logo` is a PNG or JPEG, or None for the name alone.

    Takes a tenth of a second of computing, up to half a second when text of other scripts is in
    it: call it in a thread, and few at once.
    """
    page = _Page(invoice, logo)
    page.write_document()
    return bytes(page.output())


class _Page(ShapedPage):
    """One A4 document."""

    def __init__(self, invoice: InvoiceRead, logo: bytes | None) -> None:
        folder = Path(str(files("font_source_sans_pro") / "files"))
        regular, bold = folder / "SourceSansPro-Regular.ttf", folder / "SourceSansPro-Bold.ttf"
        super().__init__(_FONT, regular, bold, invoice.model_dump_json())
        self.invoice = invoice
        self.logo = logo
        self.set_margins(_MARGIN, 20, _MARGIN)
        self.c_margin = 0
        # By default "{nb}" in a name is replaced by the number of pages.
        self.alias_nb_pages(None)  # type: ignore[arg-type]
        self.footer_height = 0.0
        self.set_title(f"{self._heading()} {invoice.number}")
        self.set_author(invoice.seller.name)
        self.set_creation_date(invoice.issued_at)

    def write_lines(self, lines: Sequence[str], *, align: str = "L", size: float = 10) -> None:
        """Write lines one below the other."""
        self.set_font(_FONT, "", size)
        for line in lines:
            self.multi_cell(
                _WIDTH, size * 0.5, line, align=align, new_x=XPos.LMARGIN, new_y=YPos.NEXT
            )

    def write_document(self) -> None:
        """Write the document from top to bottom."""
        self.add_page()
        self.footer_height = self._height_of(self._footer_lines()) + _BELOW_FOOTER
        self.set_auto_page_break(auto=True, margin=self.footer_height + _ABOVE_FOOTER)
        self._write_head()
        self._write_parties()
        self._write_table()
        self._write_payment()

    def footer(self) -> None:
        """Write the seller's own lines at the bottom of each page."""
        self.set_y(-self.footer_height)
        self.set_draw_color(*_RULE)
        self.line(_MARGIN, self.get_y(), _MARGIN + _WIDTH, self.get_y())
        self.ln(2)
        self.set_text_color(*_GREY)
        self.write_lines(self._footer_lines(), align="C", size=_FOOTER_SIZE)
        self.set_text_color(*_DARK)

    def _footer_lines(self) -> list[str]:
        seller = self.invoice.seller
        address = ", ".join(map(self.isolated, (seller.address or "").splitlines()))
        parts = (self.isolated(seller.name), address, seller.email, seller.phone)
        lines = [" · ".join(part for part in parts if part)]
        if seller.tax_id:
            lines.append(f"Tax ID {seller.tax_id}")
        return lines

    def _height_of(self, lines: Sequence[str]) -> float:
        """Return the height of lines after line breaking, in millimetres."""
        self.set_font(_FONT, "", _FOOTER_SIZE)
        rows = [
            self.multi_cell(_WIDTH, text=line, dry_run=True, output=MethodReturnValue.LINES)
            for line in lines
        ]
        return sum(map(len, cast(list[list[str]], rows))) * _FOOTER_SIZE * 0.5

    def _heading(self) -> str:
        return "Credit note" if self.invoice.kind == InvoiceKind.CREDIT_NOTE else "Invoice"

    def _write_head(self) -> None:
        top = self.get_y()
        self.set_text_color(*_DARK)
        if self.logo is not None:
            self.image(
                BytesIO(self.logo),
                x=_MARGIN,
                y=top,
                w=_LOGO_WIDTH,
                h=_LOGO_HEIGHT,
                keep_aspect_ratio=True,
            )
            self.set_y(top + _LOGO_HEIGHT + 4)
        self.set_font(_FONT, "B", 15)
        self.multi_cell(
            _WIDTH * 0.55,
            7,
            self.invoice.seller.name,
            align="L",
            new_x=XPos.LMARGIN,
            new_y=YPos.NEXT,
        )
        below = self.get_y()
        self.set_xy(_MARGIN + _WIDTH * 0.6, top)
        self.set_font(_FONT, "B", 20)
        self.cell(_WIDTH * 0.4, 9, self._heading(), align="R", new_x=XPos.LEFT, new_y=YPos.NEXT)
        self.set_font(_FONT, "", 10)
        lines = [self.invoice.number, f"Date {self.invoice.issue_date.isoformat()}"]
        if self.invoice.corrects_number:
            lines.append(f"to invoice {self.invoice.corrects_number}")
        for line in lines:
            self.multi_cell(_WIDTH * 0.4, 5, line, align="R", new_x=XPos.LEFT, new_y=YPos.NEXT)
        self.set_xy(_MARGIN, max(below, self.get_y()) + 8)

    def _write_parties(self) -> None:
        seller, buyer = self.invoice.seller, self.invoice.buyer
        top = self.get_y()
        tax = f"Tax ID {seller.tax_id}" if seller.tax_id else None
        from_ = (seller.name, seller.address, tax, seller.email, seller.phone)
        self._block("From", from_, _MARGIN)
        first_end = self.get_y()
        self.set_y(top)
        self._block("To", (buyer.name, buyer.email), _MARGIN + _WIDTH / 2)
        self.set_xy(_MARGIN, max(first_end, self.get_y()) + 10)

    def _block(self, label: str, lines: Sequence[str | None], left: float) -> None:
        self.set_x(left)
        self.set_text_color(*_GREY)
        self.set_font(_FONT, "", 9)
        self.cell(_WIDTH / 2, 5, label, new_x=XPos.LEFT, new_y=YPos.NEXT)
        self.set_text_color(*_DARK)
        self.set_font(_FONT, "", 10)
        # Each line by itself: its direction may differ from that of the first one.
        for line in "\n".join(filter(None, lines)).splitlines():
            self.multi_cell(_WIDTH / 2 - 6, 5, line, align="L", new_x=XPos.LEFT, new_y=YPos.NEXT)

    def _write_table(self) -> None:
        invoice = self.invoice
        heads = ("Description", "Quantity", "Price", f"Amount ({invoice.currency})")
        self.set_draw_color(*_RULE)
        with self.table(
            col_widths=_COLUMNS,
            text_align=("LEFT", "RIGHT", "RIGHT", "RIGHT"),
            borders_layout="HORIZONTAL_LINES",
            line_height=5,
            padding=(1.2, 1),
            width=_WIDTH,
        ) as table:
            table.row(heads)
            for line in invoice.lines:
                prices = (_amount(x, invoice.currency) for x in (line.unit_price, line.amount))
                table.row((line.description, str(line.quantity), *prices))
        self.ln(3)
        self.set_font(_FONT, "B", 13)
        total = f"Total  {invoice.currency} {_amount(invoice.total, invoice.currency)}"
        self.cell(_WIDTH, 9, total, align="R", new_x=XPos.LMARGIN, new_y=YPos.NEXT)

    def _write_payment(self) -> None:
        invoice = self.invoice
        method = _METHODS.get(invoice.payment_method, invoice.payment_method)
        verb = "Given back" if invoice.kind == InvoiceKind.CREDIT_NOTE else "Paid"
        self.ln(4)
        self.write_lines([f"{verb} on {invoice.issue_date.isoformat()} by {method}. Thank you."])
        if self.is_marked:
            self.ln(4)
            self.set_text_color(*_GREY)
            self.write_lines([_EXPLANATION], size=8)
            self.set_text_color(*_DARK)


def _amount(amount: Decimal, currency: str) -> str:
    """Return an amount with its currency's decimals: never rounded, should it have more."""
    is_whole = smallest_unit(currency) == 1 and not amount % 1
    return f"{amount:,.{0 if is_whole else 2}f}"
