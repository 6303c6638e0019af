"""The bodies of requests and responses, by subject."""
