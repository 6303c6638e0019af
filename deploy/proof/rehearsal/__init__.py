"""Databases of both versions, made for a test or a measurement of the upgrade and removed again."""
