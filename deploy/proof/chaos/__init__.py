"""`carnet chaos`: runs a whole system under load and faults, and checks that nothing is lost."""
