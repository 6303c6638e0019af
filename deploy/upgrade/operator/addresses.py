"""The target: the addresses that the operator sets, or the system of the data folder."""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from deploy.local.settings import StackSettings
from deploy.local.system import SERVICES
from deploy.upgrade.errors import UpgradeError
from deploy.upgrade.operator.local_target import local_target, running_target
from deploy.upgrade.targets import Target

REPORT_VARIABLE = "CARNET_REPORT_DATABASE_URL"
ADMINISTRATOR_VARIABLE = "CARNET_ADMIN_DATABASE_URL"


class Addresses:
    """The addresses from options and environment: of all services, or none."""

    def __init__(
        self, services: Mapping[str, str | None], environment: Mapping[str, str] = os.environ
    ) -> None:
        self._services = {name: url for name, url in services.items() if url}
        owners = {name: environment.get(f"{name.upper()}_OWNER_DATABASE_URL") for name in SERVICES}
        self._owners = {name: url for name, url in owners.items() if url}
        self._report = environment.get(REPORT_VARIABLE)
        self._administrator = environment.get(ADMINISTRATOR_VARIABLE)

    def _explicit_target(self) -> Target | None:
        """Return the target of the addresses, or None. Raises UpgradeError if some are missing."""
        if not self._services and not self._owners:
            return None
        missing = [
            f"{name.upper()}_{kind}"
            for kind, urls in (
                ("DATABASE_URL", self._services),
                ("OWNER_DATABASE_URL", self._owners),
            )
            for name in SERVICES
            if name not in urls
        ]
        if missing:
            raise UpgradeError(
                f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set.",
                "Set all of them, or none to use the system of the data folder.",
            )
        return Target(self._services, self._owners, self._report, self._administrator)

    @asynccontextmanager
    async def target(self) -> AsyncIterator[Target]:
        """Yield the target; start the data folder's database if necessary. Raises StartError."""
        target = self._explicit_target()
        if target is not None:
            yield target
            return
        async with local_target(StackSettings.from_environment()) as local:
            yield local

    async def target_if_running(self) -> Target | None:
        """Return the target if it can be read without starting or creating anything."""
        return self._explicit_target() or running_target(StackSettings.from_environment())
