"""The conversion of version 1's classes, sessions and reservations into bookings.

`carnet upgrade` converts the rows that it copies, and migration 0013 those of installations that
were upgraded before there were bookings. Because a migration runs it, it does not change after a
release.
"""
