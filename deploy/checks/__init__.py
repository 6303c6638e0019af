"""Checks of what is published and migrated: event shapes, migrations."""
