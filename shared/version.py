"""The version of this system. `pyproject.toml` reads it, the applications and documents have it."""

VERSION = "2.0.0"
