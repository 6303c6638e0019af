"""The figures in the documentation: tables between two marks, a picture, and a JSON file."""

from collections.abc import Mapping
from pathlib import Path

from deploy.local.errors import StartError
from deploy.proof.bench import results, table
from deploy.proof.bench.catalogue import MEASUREMENTS
from deploy.proof.bench.picture import svg
from deploy.proof.bench.results import AimResult, Outcome

BEGIN = "<!-- carnet bench report: from here -->"
END = "<!-- carnet bench report: to here -->"


def write(outcomes: Mapping[str, Outcome], folder: Path) -> None:
    """Write performance.json and .svg into a folder, and the tables into its performance.md.

    Raises StartError if the page lacks the marks around the tables.
    """
    page = folder / "performance.md"
    text = page.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise StartError(f"{page} has no marks for the figures.", f"Insert {BEGIN} and {END}.")
    aims = [
        aim
        for name, measurement in MEASUREMENTS.items()
        if name in outcomes
        for aim in results.aim_results(measurement, outcomes[name])
    ]
    page.write_text(f"{before}{BEGIN}\n\n{tables(outcomes, aims)}\n{END}{after}")
    (folder / "performance.svg").write_text(svg(aims))
    results.write(folder / "performance.json", outcomes)


def tables(outcomes: Mapping[str, Outcome], aims: list[AimResult]) -> str:
    """Return a table of the aims and a table of each measurement's figures, as Markdown."""
    parts = ["![The aims and what was found](performance.svg)", ""]
    parts += [table.markdown(table.AIMS_HEAD, table.aim_rows(aims)), ""]
    for name in (name for name in MEASUREMENTS if name in outcomes):
        outcome = outcomes[name]
        figures = table.markdown(table.RUNS_HEAD, table.run_rows(outcome))
        parts += [f"### {outcome.title}", "", outcome.note, "", figures, ""]
        parts += [f"{outcome.measured_at}: {table.machine_line(outcome)}", ""]
    return "\n".join(parts)
