"""The identity service over a real database."""

from shared.testing import service_database

session_database = service_database("identity")
