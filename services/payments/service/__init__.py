"""Use cases of this service, by subject."""
