"""Carnet in containers: one Dockerfile, the environment's secrets, the database's roles."""
