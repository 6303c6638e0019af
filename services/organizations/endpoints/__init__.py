"""HTTP routes of the organizations service."""
