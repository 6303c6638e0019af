"""What an operator does with a running system: audit, broker, dead letters, keys."""
