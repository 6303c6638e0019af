"""Everybody and everything that the tests of access need."""
