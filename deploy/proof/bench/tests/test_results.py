"""How rounds become ratios and verdicts."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import pytest

from deploy.local.errors import StartError
from deploy.proof.bench import report, results, table
from deploy.proof.bench.environment import BenchEnvironment, Scale, prepared_environment
from deploy.proof.bench.picture import svg
from deploy.proof.bench.protocol import Aim, Figures, Measurement, Run
from deploy.proof.bench.results import Outcome
from deploy.proof.bench.rounds import measure

pytestmark = pytest.mark.anyio

RATIO = Aim("ours of theirs", of="ours.per_second", against="theirs.per_second", solid=0.4,
            ambitious=0.6)  # fmt: skip
LAG = Aim("lag", of="ours.p99_ms", solid=50, ambitious=20, at_most=True, unit="ms")


@asynccontextmanager
async def _open_runs(_: BenchEnvironment) -> AsyncIterator[Mapping[str, Run]]:
    clock = count()

    async def ours() -> Figures:
        return {"per_second": 100.0 + next(clock), "p99_ms": 30.0}

    async def theirs() -> Figures:
        return {"per_second": 200.0 + 2 * next(clock)}

    yield {"theirs": theirs, "ours": ours}


MEASURED = Measurement("sample", "A sample", "Made up.", _open_runs, (RATIO, LAG))


@pytest.fixture
async def outcome(tmp_path: Path) -> Outcome:
    said: list[str] = []
    scale = Scale.of(quick=True, vouchers=None)
    async with prepared_environment(tmp_path, scale, said.append) as environment:
        found = await measure(MEASURED, environment, 3, said.append)
    assert len(said) == 6
    return found


async def test_variants_take_turns(outcome: Outcome) -> None:
    assert outcome.runs["theirs"]["per_second"] == [200, 204, 208]
    assert outcome.runs["ours"]["per_second"] == [101, 103, 105]


async def test_a_ratio_is_taken_within_each_round(outcome: Outcome) -> None:
    ratio, lag = results.aim_results(MEASURED, outcome)
    assert ratio.aim.values(outcome.runs) == [101 / 200, 103 / 204, 105 / 208]
    assert (ratio.spread.low, ratio.spread.median) == (105 / 208, 103 / 204)
    assert (ratio.verdict, lag.verdict) == ("solid", "solid")


@pytest.mark.parametrize(
    ("value", "verdict"),
    [(19.0, "ambitious"), (20.0, "ambitious"), (50.0, "solid"), (51, "missed")],
)
def test_less_is_better_where_the_aim_states_it(value: float, verdict: str) -> None:
    spread = results.Spread.of([value])
    assert results.AimResult("sample", LAG, spread).verdict == verdict


def test_an_aim_of_a_variant_that_was_not_run_is_left_out() -> None:
    runs: results.Runs = {"ours": {"per_second": [1.0], "p99_ms": [1.0]}}
    found = results.aim_results(MEASURED, Outcome("sample", "A sample", "", "", runs))
    assert [each.aim for each in found] == [LAG]


async def test_the_file_gives_back_what_was_written(outcome: Outcome, tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    results.write(file, {"sample": outcome})
    assert results.read(file) == {"sample": outcome}


async def test_tables_and_picture_contain_every_aim(outcome: Outcome) -> None:
    found = results.aim_results(MEASURED, outcome)
    text = table.markdown(table.AIMS_HEAD, table.aim_rows(found))
    assert "| ours of theirs | 0.505 (0.505 – 0.505) | ≥ 0.4 | ≥ 0.6 | solid |" in text
    assert "| lag | 30 ms | ≤ 50 | ≤ 20 | solid |" in text
    assert all(each.aim.name in svg(found) for each in found)


def test_a_report_needs_its_place_in_the_page(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text("# Speed\n")
    with pytest.raises(StartError):
        report.write({}, tmp_path)
    page.write_text(f"# Speed\n{report.BEGIN}\nold\n{report.END}\nAfter.\n")
    report.write({}, tmp_path)
    assert "old" not in page.read_text()
    assert page.read_text().endswith(f"{report.END}\nAfter.\n")
