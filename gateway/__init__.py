"""The only process that clients reach: routing, token check, limits, streaming, documentation."""
