"""Nobody else at work: no other upgrade, nothing that one left behind, none of the services."""

import asyncio
from typing import Any

from deploy.upgrade.errors import UpgradeError
from deploy.upgrade.source import APPLICATION
from deploy.upgrade.targets import COPIED_INTO, Connections

GRACE_SECONDS = 5.0
"""How long a service's sessions may take to end: those of one that was stopped just now."""
_LOOK_EVERY_SECONDS = 0.1

_ONE_AT_A_TIME = "SELECT pg_try_advisory_lock(hashtextextended('carnet.upgrade', 0))"
_LEFT = """
    SELECT EXISTS (
        SELECT 1 FROM pg_stat_activity WHERE datname = current_database()
        AND usename = current_user AND pid <> pg_backend_pid() AND application_name = $1
    )
"""
_SERVICES = """
    SELECT EXISTS (
        SELECT 1 FROM pg_stat_activity WHERE datname = current_database()
        AND usename = current_user AND pid <> pg_backend_pid() AND application_name <> $1
    )
"""


async def acquire_lock(targets: Connections, owners: Connections) -> None:
    """Make sure that no other upgrade is at work, and that an earlier one has come to its end.

    When a run is killed the server still finishes the statement that it was given, perhaps a
    commit: what is done must not be read before that. Raises UpgradeError.
    """
    if not await targets["organizations"].fetchval(_ONE_AT_A_TIME):
        raise UpgradeError("Another upgrade is at work.", "Wait until it has ended.")
    for service in COPIED_INTO:
        await _wait_until_none(owners[service], _LEFT)


async def require_services_stopped(targets: Connections) -> None:
    """Make sure that version 2's services do not run. Raises UpgradeError."""
    for service in COPIED_INTO:
        try:
            async with asyncio.timeout(GRACE_SECONDS):
                await _wait_until_none(targets[service], _SERVICES)
        except TimeoutError as error:
            raise UpgradeError(
                f"Version 2 is at work: {service} has sessions on its database.",
                "Stop version 2 (Ctrl-C where `make run` runs, or your services), then give the"
                " same command again.",
            ) from error


async def services_running(targets: Connections) -> bool:
    """Say whether version 2's services run."""
    return any([await targets[service].fetchval(_SERVICES, APPLICATION) for service in COPIED_INTO])


async def _wait_until_none(connection: Any, query: str) -> None:
    while True:
        if not await connection.fetchval(query, APPLICATION):
            return
        await asyncio.sleep(_LOOK_EVERY_SECONDS)
