"""`python -m services.audit.migrate`: bring the schema up to date."""

from shared.migrations import main

if __name__ == "__main__":
    main("services.audit")
