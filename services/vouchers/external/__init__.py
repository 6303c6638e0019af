"""Calendars from elsewhere: fetched within limits, and parsed in a process of their own."""
