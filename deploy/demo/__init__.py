"""`carnet demo`: one purchase from beginning to end, as an API client of a running system."""
