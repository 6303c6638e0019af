"""The end of a log, as it is shown for a process that failed."""

from pathlib import Path

import pytest

from deploy.local.errors import StartError
from deploy.local.logs import last_line, last_lines
from deploy.local.supervisor import Program, Supervisor, own_environment


def test_the_last_lines_have_the_cause_and_no_empty_lines(tmp_path: Path) -> None:
    log = tmp_path / "process.log"
    log.write_text("".join(f"line {number}\n\n" for number in range(30)))
    assert last_lines(log).splitlines() == [f"line {number}" for number in range(10, 30)]
    assert last_line(log) == "line 29"


def test_a_log_that_is_missing_or_empty_is_a_dash(tmp_path: Path) -> None:
    (tmp_path / "empty.log").touch()
    assert last_lines(tmp_path / "empty.log") == last_lines(tmp_path / "missing.log") == "-"


@pytest.mark.anyio
async def test_a_program_that_fails_is_explained_by_the_end_of_its_log(
    tmp_path: Path, supervisor: Supervisor
) -> None:
    script = ("/bin/sh", "-c", "for i in $(seq 30); do echo line $i; done; exit 3")
    with pytest.raises(StartError) as raised:
        await supervisor.run_successfully(Program("job", script, own_environment(), tmp_path))
    assert raised.value.problem.splitlines() == [
        "job failed (exit code 3):",
        *(f"line {number}" for number in range(11, 31)),
    ]
    assert str(supervisor.log_of("job")) in raised.value.remedy
