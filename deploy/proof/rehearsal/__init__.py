"""Temporary databases of both versions, for tests and measurements of the upgrade."""
