"""`carnet event-shapes`: writes the published shapes of events to files and compares them."""

from pathlib import Path
from typing import Annotated

import typer

from deploy.checks.event_shapes import files
from deploy.local.errors import StartError
from deploy.local.system import CHECKOUT

app = typer.Typer(help="Write, check and compare the published shapes of events.")


@app.command()
def write() -> None:
    """Write services/*/event_shapes and docs/asyncapi.json from the code."""
    count = files.write()
    print(f"{count} files were changed." if count else "All files are up to date.")


@app.command()
def check() -> None:
    """Exit with 1 when the committed files differ from what the code publishes."""
    paths = files.drift()
    for path in paths:
        print(f"{path.relative_to(CHECKOUT)} differs from what the code publishes")
    if paths:
        print("Run: carnet event-shapes write, and commit the changes.")
        raise typer.Exit(1)
    print("The published shapes are those of the code.")


@app.command()
def compare(
    release: Annotated[Path, typer.Argument(help="A checkout of the release to compare with.")],
) -> None:
    """Exit with 1 when a reader of a release's events would not understand the present ones."""
    # Its schema library is installed for development only; the other commands do not need it.
    from deploy.checks.event_shapes.contracts import breaking_changes

    former = files.read_shapes(release)
    if not former:
        raise StartError(f"{release} has no event shapes.", "Name a checkout of Carnet.")
    changes = breaking_changes(former, files.read_shapes(CHECKOUT))
    for change in changes:
        print(change)
    if changes:
        print("A change that breaks readers needs a new version of the event: docs/events.md")
        raise typer.Exit(1)
    print(f"Readers of all {len(former)} released shapes understand the present ones.")
