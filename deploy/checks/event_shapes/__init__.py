"""The published shapes of events: written from the code and compared with their readers."""
