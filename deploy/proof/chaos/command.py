"""The command `carnet chaos`, which `make chaos` runs."""

import secrets
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from deploy.local.interrupts import Interrupts, exit_with
from deploy.proof.chaos.platform import running_platform
from deploy.proof.chaos.report import show
from deploy.proof.chaos.run import run

app = typer.Typer(help="Cause faults everywhere and count what was lost.")


class Journal:
    """A log of details, for instance every process that ended and its reason."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def write(self, line: str) -> None:
        """Append a line with the time."""
        with self._file.open("a") as file:
            file.write(f"{datetime.now(UTC):%H:%M:%S.%f} {line}\n")


async def run_and_report(folder: Path, minutes: float, seed: int | None, console: Console) -> bool:
    """Run in a new folder and print the result; return whether it is without violations."""
    run_seed = secrets.randbelow(10**6) if seed is None else seed
    began = time.monotonic()

    def say(line: str) -> None:
        console.print(f"{time.monotonic() - began:6.1f} s  {line}", markup=False, highlight=False)

    say(f"seed {run_seed}")
    shutil.rmtree(folder, ignore_errors=True)
    async with running_platform(folder, Journal(folder / "journal.log").write) as platform:
        say(f"the system runs with two processes of each kind; {platform.second_host}")
        result = await run(platform, seconds=minutes * 60, seed=run_seed, say=say)
        say("all checks have run")
    show(result, console)
    return result.in_order


@app.command()
def chaos(
    minutes: Annotated[
        float, typer.Option(help="The duration of the faults.", min=0.1, max=600)
    ] = 1.5,
    seed: Annotated[
        int | None, typer.Option(help="The seed of an earlier run, to repeat it.")
    ] = None,
    data: Annotated[
        Path, typer.Option(help="The folder of the run; its content is deleted.")
    ] = Path(".carnet/chaos"),
) -> None:
    """Run a whole system in DATA, cause faults everywhere, and count what was lost.

    The exit code is 1 if anything was lost.
    """

    async def work(_: Interrupts) -> int:
        return 0 if await run_and_report(data.resolve(), minutes, seed, Console()) else 1

    exit_with(work)
