"""`carnet event-shapes`: the published shapes of events as files, kept true to the code."""

from pathlib import Path
from typing import Annotated

import typer

from deploy.checks.event_shapes import files
from deploy.local.errors import StartError
from deploy.local.system import CHECKOUT

app = typer.Typer(help="Write, check and compare the published shapes of events.")


@app.command()
def write() -> None:
    """Write services/*/event_shapes and docs/asyncapi.json anew from the code."""
    changed = files.write()
    print(f"{changed} files changed." if changed else "All files are up to date.")


@app.command()
def check() -> None:
    """Exit with 1 when the committed files are not what the code publishes."""
    outdated = files.drift()
    for path in outdated:
        print(f"{path.relative_to(CHECKOUT)} is not what the code publishes")
    if outdated:
        print("Run: carnet event-shapes write, and commit what changed.")
        raise typer.Exit(1)
    print("The published shapes are what the code says.")


@app.command()
def compare(
    release: Annotated[Path, typer.Argument(help="A checkout of the release to compare with.")],
) -> None:
    """Exit with 1 when a reader of a release's events would not understand ours."""
    # Its schema library is for development; the other commands must run without it.
    from deploy.checks.event_shapes.contracts import breaking_changes

    released = files.read_shapes(release)
    if not released:
        raise StartError(f"{release} has no event shapes.", "Name a checkout of Carnet.")
    broken = breaking_changes(released, files.read_shapes(CHECKOUT))
    for change in broken:
        print(change)
    if broken:
        print("A change that breaks a reader is a new version beside the old one: docs/events.md")
        raise typer.Exit(1)
    print(f"Readers of all {len(released)} released shapes understand the present ones.")
