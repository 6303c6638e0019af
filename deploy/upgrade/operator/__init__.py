"""What an operator uses and reads: the command, the preflight, the pages and the report."""
