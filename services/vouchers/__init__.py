"""Voucher types, vouchers, their codes and the sessions spent on them."""
