"""What shows that Carnet is fast and loses nothing: measurements, chaos, rehearsal databases."""
