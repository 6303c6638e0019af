"""Times of sessions: pure functions of clocks, opening hours, periods and free times.

An instant is a whole number of seconds since 1970-01-01T00:00:00Z, without leap seconds (POSIX
time). An interval is a pair of instants; it contains its first instant and not its second. Local
minutes are minutes of the wall clock since 00:00. Weekdays are those of ISO 8601: Monday is 1.
"""
