"""`python -m deploy.docker.provision`: every service's roles and schema. Safe to repeat.

Reads CARNET_DATABASE_URL, an administrator's, and for each service the passwords that its roles
are given: <SERVICE>_DATABASE_PASSWORD and <SERVICE>_OWNER_DATABASE_PASSWORD.
"""

import asyncio
import os
import sys
from collections.abc import Mapping

from deploy.docker.environment import SERVICES
from shared.provisioning import provision

ADMINISTRATOR = "CARNET_DATABASE_URL"


async def provision_all(environment: Mapping[str, str]) -> None:
    """Make or update the roles and schemas of all services.

    Raises LookupError that names what the environment lacks, before anything is done.
    """
    wanted = [ADMINISTRATOR, *(name for service in SERVICES for name in passwords_of(service))]
    missing = [name for name in wanted if not environment.get(name)]
    if missing:
        raise LookupError(f"not set: {', '.join(missing)}")
    for service in SERVICES:
        password, owner_password = (environment[name] for name in passwords_of(service))
        await provision(
            environment[ADMINISTRATOR], service, password=password, owner_password=owner_password
        )


def passwords_of(service: str) -> tuple[str, str]:
    """Return the variables of a service's password and of its schema owner's."""
    prefix = service.upper()
    return f"{prefix}_DATABASE_PASSWORD", f"{prefix}_OWNER_DATABASE_PASSWORD"


def main() -> int:
    """Provision by the process's environment; return the exit code."""
    try:
        asyncio.run(provision_all(os.environ))
    except LookupError as error:
        print(f"provision: {error}", file=sys.stderr)
        return 1
    print(f"provision: roles and schemas of {', '.join(SERVICES)} are there")
    return 0


if __name__ == "__main__":
    sys.exit(main())
