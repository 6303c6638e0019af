"""`python -m deploy.local.settings_check SERVICE`: can that process read its environment?

Ends with 1 and a line for each bad variable. `make run` asks it before anything starts, for the
services that have variables of their own in its environment: docs/settings.md.
"""

import asyncio
import importlib
import os
import sys

from deploy.local.errors import StartError
from deploy.local.system import CHECKOUT, Instance, System
from shared.settings import load_settings


async def check_settings(system: System) -> None:
    """Try what each process would read of our environment. Raises StartError."""
    processes = {instance.owner: instance for instance in system.instances}.values()
    chosen = [process for process in processes if _has_own(process.owner)]
    found = await asyncio.gather(*(_try(system, process) for process in chosen))
    if any(found):
        raise StartError(
            "\n".join(filter(None, found)),
            "Nothing was started. docs/settings.md lists the settings.",
        )


def _has_own(owner: str) -> bool:
    return any(name.startswith(f"{owner.upper()}_") for name in os.environ)


async def _try(system: System, process: Instance) -> str:
    """Return what is wrong, or an empty text."""
    asked = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "deploy.local.settings_check", process.owner),
        cwd=CHECKOUT,
        env=system.environment(process),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await asked.communicate()
    lines = errors.decode(errors="replace").strip().splitlines()
    if not asked.returncode:
        return ""
    if not lines or lines[0].startswith("Traceback"):
        reason = lines[-1] if lines else f"exit code {asked.returncode}"
        return f"The settings of {process.owner} cannot be read: {reason}"
    return "\n".join(lines[:-1])  # the last one says where the settings are listed


def main(owner: str) -> None:
    """Read the settings of a service or of the gateway. Raises SystemExit."""
    package = owner if owner == "gateway" else f"services.{owner}"
    settings = load_settings(importlib.import_module(f"{package}.settings").Settings)
    if owner == "payments":
        settings.open_gateways()


if __name__ == "__main__":
    main(sys.argv[1])
