"""`make bench`: measurements beside the obvious alternative, in rounds, with their spread."""
