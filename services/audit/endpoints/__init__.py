"""HTTP routes of the audit service: a route parses, calls one use case and returns its result."""
