"""Invoices and credit notes as PDF documents, and the logos on them."""
