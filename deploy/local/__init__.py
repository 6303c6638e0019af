"""What stands behind `make run`: embedded servers, and a supervisor for the system's processes."""
