"""The one door: paths to services, token check, limits, streaming, merged documentation."""
