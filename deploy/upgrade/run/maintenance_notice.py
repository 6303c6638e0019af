"""The notices in the schemas that the upgrade fills, which keep version 2 from starting meanwhile.

They stand in every schema before the plan is kept in one, and until the plan is finished or gone.
So wherever a run is killed, half a database has its notice; at worst one stands where nothing is
half, and the command that it names takes it down.
"""

from deploy.upgrade.run.exclusive_lock import require_services_stopped
from deploy.upgrade.targets import COPIED_INTO, Connections
from shared.maintenance import Notice

UPGRADING = Notice(
    "An upgrade from version 1 was begun and is not finished.",
    "Finish it: carnet upgrade data; or take it back: carnet upgrade rollback.",
)
ROLLING_BACK = Notice(
    "A rollback of the upgrade from version 1 was begun and is not finished.",
    "Finish it: carnet upgrade rollback.",
)

_PUT_UP = (
    "INSERT INTO maintenance (reason, remedy) VALUES ($1, $2) ON CONFLICT (only_one)"
    " DO UPDATE SET reason = excluded.reason, remedy = excluded.remedy"
)


async def publish(notice: Notice, targets: Connections) -> None:
    """Let nobody start from here on. Raises UpgradeError when somebody did just before."""
    for service in COPIED_INTO:
        await targets[service].execute(_PUT_UP, notice.reason, notice.remedy)
    await require_services_stopped(targets)


async def remove(targets: Connections) -> None:
    """Let version 2 start again."""
    for service in COPIED_INTO:
        await targets[service].execute("DELETE FROM maintenance")
