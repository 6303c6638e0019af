"""Passwords, tokens and device cookies, and the keys that protect them. No database."""
