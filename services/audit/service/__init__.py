"""Use cases of the audit service: write, read, export, verify, seal and archive the trail."""
