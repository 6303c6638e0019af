"""Routes of this service: parse a request, call one use case, return its result."""
