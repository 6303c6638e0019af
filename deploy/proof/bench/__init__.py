"""`make bench`: measures Carnet and an obvious alternative in rounds, with their spread."""
