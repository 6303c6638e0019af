from shared.testing import service_database

session_database = service_database("vouchers")
