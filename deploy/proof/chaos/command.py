"""The command behind `make chaos`."""

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

app = typer.Typer(help="Make everything fail, and count what was lost.")


class Journal:
    """What a person need not see while it runs: every process that ended, and why."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def write(self, line: str) -> None:
        """Append a line with its time."""
        with self._file.open("a") as file:
            file.write(f"{datetime.now(UTC):%H:%M:%S.%f} {line}\n")


async def in_order(folder: Path, minutes: float, seed: int | None, console: Console) -> bool:
    """Run in a fresh folder, print the result, and say whether all was in order."""
    chosen = secrets.randbelow(10**6) if seed is None else seed
    began = time.monotonic()

    def say(line: str) -> None:
        console.print(f"{time.monotonic() - began:6.1f} s  {line}", markup=False, highlight=False)

    say(f"seed {chosen}")
    shutil.rmtree(folder, ignore_errors=True)
    async with running_platform(folder, Journal(folder / "journal.log").write) as platform:
        say(f"the system runs, two processes of each kind; {platform.second_host}")
        result = await run(platform, seconds=minutes * 60, seed=chosen, say=say)
        say("everything was checked")
    show(result, console)
    return result.in_order


@app.command()
def chaos(
    minutes: Annotated[float, typer.Option(help="How long things fail.", min=0.1, max=600)] = 1.5,
    seed: Annotated[int | None, typer.Option(help="Of an earlier run, to have it again.")] = None,
    data: Annotated[Path, typer.Option(help="Folder of the run; what is in it is deleted.")] = Path(
        ".carnet/chaos"
    ),
) -> None:
    """Run a whole system in DATA, make everything fail, and count what was lost: nothing.

    Exits with 1 when anything was.
    """

    async def work(_: Interrupts) -> int:
        return 0 if await in_order(data.resolve(), minutes, seed, Console()) else 1

    exit_with(work)
