"""The audit trail: every change, once, provable."""
