"""Results as tables: for a terminal, and as Markdown for the documentation."""

from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console
from rich.table import Table

from deploy.proof.bench.protocol import Aim
from deploy.proof.bench.results import AimResult, Outcome, Spread

AIMS_HEAD = ("what", "found", "solid", "ambitious", "")
RUNS_HEAD = ("variant", "figure", "median", "lowest", "highest")


def number(value: float) -> str:
    """Return a number with its significant digits."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def aim_rows(aims: Iterable[AimResult]) -> list[Sequence[str]]:
    """Return one row for each aim."""
    return [
        (
            each.aim.name,
            _with_spread(each.spread, each.aim.unit),
            _bound(each.aim, each.aim.solid),
            _bound(each.aim, each.aim.ambitious),
            each.verdict,
        )
        for each in aims
    ]


def run_rows(outcome: Outcome) -> list[Sequence[str]]:
    """Return one row for each figure of each variant."""
    rows: list[Sequence[str]] = []
    for variant, figures in outcome.runs.items():
        for figure, values in figures.items():
            spread = Spread.of(values)
            numbers = (spread.median, spread.low, spread.high)
            rows.append((variant, figure, *(number(n) for n in numbers)))
    return rows


def machine_line(outcome: Outcome) -> str:
    """Return the machine and the rounds of an outcome in one line."""
    facts: Mapping[str, object] = {**outcome.machine, **outcome.scale}
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in facts.items())


def show(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table."""
    table = Table(title=title, title_justify="left", header_style="bold")
    for position, name in enumerate(head):
        table.add_column(name, justify="left" if position == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def _with_spread(spread: Spread, unit: str) -> str:
    text = number(spread.median)
    if spread.low != spread.high:
        text += f" ({number(spread.low)} – {number(spread.high)})"
    return f"{text} {unit}".strip()


def _bound(aim: Aim, value: float) -> str:
    return f"{'≤' if aim.at_most else '≥'} {number(value)}"
