"""The callers and the objects that the tests of access need."""
