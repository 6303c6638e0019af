"""The notices in the schemas that the upgrade fills. They prevent version 2 from starting.

They are stored in every schema before the plan is stored in one, and deleted after the plan is
finished or removed. So a half-copied database has its notice wherever a run is killed. At worst a
notice remains in a complete database, and the command that it names deletes it.
"""

from deploy.upgrade.run.exclusive_lock import require_services_stopped
from deploy.upgrade.targets import COPIED_INTO, Connections
from shared.maintenance import MaintenanceNotice

UPGRADING = MaintenanceNotice(
    "An upgrade from version 1 was started and is not finished.",
    "Finish it: carnet upgrade data; or undo it: carnet upgrade rollback.",
)
ROLLING_BACK = MaintenanceNotice(
    "A rollback of the upgrade from version 1 was started and is not finished.",
    "Finish it: carnet upgrade rollback.",
)

_STORE = (
    "INSERT INTO maintenance (reason, remedy) VALUES ($1, $2) ON CONFLICT (only_one)"
    " DO UPDATE SET reason = excluded.reason, remedy = excluded.remedy"
)


async def publish(notice: MaintenanceNotice, targets: Connections) -> None:
    """Prevent services from starting. Raises UpgradeError if one started just before."""
    for service in COPIED_INTO:
        await targets[service].execute(_STORE, notice.reason, notice.remedy)
    await require_services_stopped(targets)


async def remove(targets: Connections) -> None:
    """Allow version 2 to start again."""
    for service in COPIED_INTO:
        await targets[service].execute("DELETE FROM maintenance")
