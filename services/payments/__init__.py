"""Payment transactions, invoices, refunds: money is never lost, doubled or invented."""
