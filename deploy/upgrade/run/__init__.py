"""The steps of the upgrade: backup, structure, data, verification and rollback."""
