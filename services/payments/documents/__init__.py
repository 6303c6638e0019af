"""Invoices and credit notes as PDF documents, and the logos on them."""

from services.payments.documents.logos import Logos
from services.payments.documents.pdf import render

__all__ = ["Logos", "render"]
