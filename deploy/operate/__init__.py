"""Commands for the operator of a running system: audit, broker, dead letters, keys."""
