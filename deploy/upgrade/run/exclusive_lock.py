"""Makes sure that no other upgrade and none of version 2's services run."""

import asyncio
from typing import Any

from deploy.upgrade.errors import UpgradeError
from deploy.upgrade.source import APPLICATION
from deploy.upgrade.targets import COPIED_INTO, Connections

GRACE_SECONDS = 5.0
"""The time in which the sessions of a service that was stopped just now must end."""
_POLL_SECONDS = 0.1

_LOCK = "SELECT pg_try_advisory_lock(hashtextextended('carnet.upgrade', 0))"
_UPGRADE_SESSIONS = """
    SELECT EXISTS (
        SELECT 1 FROM pg_stat_activity WHERE datname = current_database()
        AND usename = current_user AND pid <> pg_backend_pid() AND application_name = $1
    )
"""
_SERVICE_SESSIONS = """
    SELECT EXISTS (
        SELECT 1 FROM pg_stat_activity WHERE datname = current_database()
        AND usename = current_user AND pid <> pg_backend_pid() AND application_name <> $1
    )
"""


async def acquire_lock(targets: Connections, owners: Connections) -> None:
    """Take the lock of the upgrade, and wait until the sessions of an earlier run have ended.

    The server still finishes the statement, perhaps a commit, of a run that was killed. Its result
    must not be read before. Raises UpgradeError if another upgrade runs.
    """
    if not await targets["organizations"].fetchval(_LOCK):
        raise UpgradeError("Another upgrade is running.", "Wait until it has ended.")
    for service in COPIED_INTO:
        await _wait_until_none(owners[service], _UPGRADE_SESSIONS)


async def require_services_stopped(targets: Connections) -> None:
    """Make sure that version 2's services do not run. Raises UpgradeError."""
    for service in COPIED_INTO:
        try:
            async with asyncio.timeout(GRACE_SECONDS):
                await _wait_until_none(targets[service], _SERVICE_SESSIONS)
        except TimeoutError as error:
            raise UpgradeError(
                f"Version 2 is running: {service} has sessions on its database.",
                "Stop version 2 (Ctrl-C in the terminal of `make run`, or your services), then"
                " repeat the command.",
            ) from error


async def services_running(targets: Connections) -> bool:
    """Return whether any of version 2's services runs."""
    for service in COPIED_INTO:
        if await targets[service].fetchval(_SERVICE_SESSIONS, APPLICATION):
            return True
    return False


async def _wait_until_none(connection: Any, query: str) -> None:
    while await connection.fetchval(query, APPLICATION):  # noqa: ASYNC110
        await asyncio.sleep(_POLL_SECONDS)
