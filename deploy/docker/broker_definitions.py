"""`python -m deploy.docker.broker_definitions FILE`: writes the broker's users to a file.

Reads RABBITMQ_PASSWORD of the administrator and <USER>_RABBITMQ_PASSWORD of each other user. The
file contains hashes of the passwords. The broker imports it at each start.
"""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy.operate.broker import access
from shared.broker_access import with_administrator

ADMINISTRATOR = "carnet"
PASSWORD = "RABBITMQ_PASSWORD"  # noqa: S105 - the name of a variable
HOST = "/"


def definitions(environment: Mapping[str, str]) -> dict[str, list[dict[str, Any]]]:
    """Return administrator, users, rights and exchanges.

    Raises LookupError that names the missing variables.
    """
    names = {user: access.password_variable(user) for user in access.USERS}
    missing = [name for name in (PASSWORD, *names.values()) if not environment.get(name)]
    if missing:
        raise LookupError(f"not set: {', '.join(missing)}")
    passwords = {user: environment[name] for user, name in names.items()}
    base = access.definitions_for(passwords, host=HOST)
    return with_administrator(base, ADMINISTRATOR, environment[PASSWORD])


def write(file: Path, text: str) -> None:
    """Replace a file in one step, because the broker may be starting."""
    new = file.with_suffix(".new")
    new.write_text(text)
    new.chmod(0o644)  # the broker runs as another user
    new.replace(file)


def main() -> int:
    """Write the file of the command line and return the exit code."""
    file = Path(sys.argv[1])
    try:
        write(file, json.dumps(definitions(os.environ), indent=2))
    except LookupError as error:
        print(f"broker-definitions: {error}", file=sys.stderr)
        return 1
    print(f"broker-definitions: users {', '.join(access.USERS)} are in {file}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
