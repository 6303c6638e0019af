"""Checks of the code: published event shapes, and migrations against models."""
