"""The figures in the documentation: a table between two marks, a picture, the raw numbers."""

from collections.abc import Mapping
from pathlib import Path

from deploy.local.errors import StartError
from deploy.proof.bench import results, table
from deploy.proof.bench.catalogue import MEASUREMENTS
from deploy.proof.bench.picture import svg
from deploy.proof.bench.results import AimResult, Outcome

BEGIN = "<!-- carnet bench report: from here -->"
END = "<!-- carnet bench report: to here -->"


def write(found: Mapping[str, Outcome], folder: Path) -> None:
    """Write performance.json and .svg into a folder, and the tables into its performance.md.

    Raises StartError when the page lacks the marks between which the tables belong.
    """
    page = folder / "performance.md"
    text = page.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise StartError(f"{page} has no place for the figures.", f"Put {BEGIN} … {END} into it.")
    aims = _judged(found)
    page.write_text(f"{before}{BEGIN}\n\n{tables(found, aims)}\n{END}{after}")
    (folder / "performance.svg").write_text(svg(aims))
    results.write(folder / "performance.json", found)


def tables(found: Mapping[str, Outcome], aims: list[AimResult]) -> str:
    """Return the aims in one table and each measurement's figures in another, as Markdown."""
    parts = ["![The aims and what was found](performance.svg)", ""]
    parts += [table.markdown(table.AIMS_HEAD, table.aim_rows(aims)), ""]
    for name in (name for name in MEASUREMENTS if name in found):
        outcome = found[name]
        figures = table.markdown(table.RUNS_HEAD, table.run_rows(outcome))
        parts += [f"### {outcome.title}", "", outcome.note, "", figures, ""]
        parts += [f"{outcome.measured_at}: {table.machine_line(outcome)}", ""]
    return "\n".join(parts)


def _judged(found: Mapping[str, Outcome]) -> list[AimResult]:
    chosen = [(each, found[name]) for name, each in MEASUREMENTS.items() if name in found]
    return [aim for each, outcome in chosen for aim in results.aim_results(each, outcome)]
