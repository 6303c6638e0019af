"""The conversion of each table's rows, what is reported about them, and what is verified."""
