"""The local stack of `make run`: embedded servers, and a supervisor of the processes."""
