"""`python -m deploy.local.settings_check SERVICE`: checks the settings that a process would read.

Exits with 1 and a line for each wrong variable. `make run` runs it before it starts anything, for
the services that have variables in its environment (docs/settings.md).
"""

import asyncio
import importlib
import os
import sys

from deploy.local.errors import StartError
from deploy.local.system import CHECKOUT, Instance, System
from shared.settings import load_settings


async def check_settings(system: System) -> None:
    """Check the settings of each service with variables in our environment. Raises StartError."""
    processes = {
        instance.owner: instance
        for instance in system.instances
        if any(name.startswith(f"{instance.owner.upper()}_") for name in os.environ)
    }
    problems = await asyncio.gather(*(_problem(system, each) for each in processes.values()))
    if any(problems):
        raise StartError(
            "\n".join(filter(None, problems)),
            "Nothing was started. docs/settings.md lists the settings.",
        )


async def _problem(system: System, instance: Instance) -> str:
    """Return what is wrong with an instance's settings, or an empty text."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "deploy.local.settings_check", instance.owner),
        cwd=CHECKOUT,
        env=system.environment(instance),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate()
    lines = errors.decode(errors="replace").strip().splitlines()
    if not process.returncode:
        return ""
    if not lines or lines[0].startswith("Traceback"):
        reason = lines[-1] if lines else f"exit code {process.returncode}"
        return f"The settings of {instance.owner} cannot be read: {reason}"
    return "\n".join(lines[:-1])  # the last one refers to the list of settings


def main(owner: str) -> None:
    """Read the settings of a service or of the gateway. Raises SystemExit."""
    package = owner if owner == "gateway" else f"services.{owner}"
    settings = load_settings(importlib.import_module(f"{package}.settings").Settings)
    if owner == "payments":
        settings.open_gateways()


if __name__ == "__main__":
    main(sys.argv[1])
