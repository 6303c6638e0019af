"""The published shapes of events: written from the code, compared, and checked with readers."""
