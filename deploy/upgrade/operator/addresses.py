"""Where the target is: as the operator says, or else the system of the data folder."""

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
    """The addresses that options and environment gave, all of the services' or none."""

    def __init__(
        self, services: Mapping[str, str | None], environment: Mapping[str, str] = os.environ
    ) -> None:
        self._services = {name: url for name, url in services.items() if url}
        owners = {name: environment.get(f"{name.upper()}_OWNER_DATABASE_URL") for name in SERVICES}
        self._owners = {name: url for name, url in owners.items() if url}
        self._report = environment.get(REPORT_VARIABLE)
        self._administrator = environment.get(ADMINISTRATOR_VARIABLE)

    def _given(self) -> Target | None:
        """Return the target that was given, or None. Raises UpgradeError when half of it was."""
        if not self._services and not self._owners:
            return None
        missing = [
            f"{name.upper()}_{kind}"
            for kind, known in (
                ("DATABASE_URL", self._services),
                ("OWNER_DATABASE_URL", self._owners),
            )
            for name in SERVICES
            if name not in known
        ]
        if missing:
            raise UpgradeError(
                f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set.",
                "Set them too, or none at all to use the system of the data folder.",
            )
        return Target(self._services, self._owners, self._report, self._administrator)

    @asynccontextmanager
    async def target(self) -> AsyncIterator[Target]:
        """Yield the target, starting the data folder's database if need be. Raises StartError."""
        given = self._given()
        if given is not None:
            yield given
            return
        async with local_target(StackSettings.from_environment()) as local:
            yield local

    async def target_if_there(self) -> Target | None:
        """Return the target if it can be looked at without starting or making anything."""
        return self._given() or running_target(StackSettings.from_environment())
