"""`carnet upgrade structure`: runs every service's migrations and creates the report role."""

from deploy.local.system import SERVICES
from deploy.upgrade.run import report_role
from deploy.upgrade.targets import Target, driver_url
from shared.migrations import head_of, upgrade


async def upgrade_structure(target: Target) -> dict[str, str]:
    """Bring every schema to its newest revision; return the revisions. Safe to repeat.

    Raises UpgradeError if an address is missing.
    """
    addresses = {service: target.owner(service) for service in SERVICES}
    revisions = {}
    for service, url in addresses.items():
        await upgrade(f"services.{service}", driver_url(url))
        revisions[service] = head_of(f"services.{service}") or "none"
    if await report_role.ensure_role(target):
        revisions[report_role.ROLE] = "may read"
    return revisions
