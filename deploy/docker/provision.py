"""`python -m deploy.docker.provision`: creates the roles and schema of every service.

It is safe to repeat. Reads CARNET_DATABASE_URL, the address for an administrator, and the passwords
of each service's roles: <SERVICE>_DATABASE_PASSWORD and <SERVICE>_OWNER_DATABASE_PASSWORD.
"""

import asyncio
import os
import sys
from collections.abc import Mapping

from deploy.docker.environment import SERVICES
from shared.provisioning import provision

ADMINISTRATOR = "CARNET_DATABASE_URL"


async def provision_all(environment: Mapping[str, str]) -> None:
    """Create or update the roles and schemas of all services.

    Raises LookupError that names missing variables before anything is changed.
    """
    names = [ADMINISTRATOR, *(name for service in SERVICES for name in passwords_of(service))]
    missing = [name for name in names if not environment.get(name)]
    if missing:
        raise LookupError(f"not set: {', '.join(missing)}")
    for service in SERVICES:
        password, owner_password = (environment[name] for name in passwords_of(service))
        await provision(
            environment[ADMINISTRATOR], service, password=password, owner_password=owner_password
        )


def passwords_of(service: str) -> tuple[str, str]:
    """Return the names of the variables with the passwords of a service's role and owner."""
    prefix = service.upper()
    return f"{prefix}_DATABASE_PASSWORD", f"{prefix}_OWNER_DATABASE_PASSWORD"


def main() -> int:
    """Provision with the passwords of the environment; return the exit code."""
    try:
        asyncio.run(provision_all(os.environ))
    except LookupError as error:
        print(f"provision: {error}", file=sys.stderr)
        return 1
    print(f"provision: roles and schemas of {', '.join(SERVICES)} exist")
    return 0


if __name__ == "__main__":
    sys.exit(main())
