"""Use cases of the organizations service."""
