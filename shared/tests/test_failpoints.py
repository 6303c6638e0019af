"""Fail points: off they are nothing, on they kill once, and half set they only warn."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from shared import failpoints

PROGRAM = """
from shared.failpoints import failpoint, warn_if_set
from shared.logging import configure_logging

configure_logging("test")
warn_if_set()
for _ in range(3):
    failpoint("one.point")
    failpoint("another.point")
print("alive")
"""


def run(**environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def warnings(done: subprocess.CompletedProcess[str]) -> list[str]:
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return [line["event"] for line in lines if line["level"] == "warning"]


def test_off_it_is_an_empty_function() -> None:
    assert failpoints.failpoint is failpoints.nothing
    assert not failpoints.nothing.__code__.co_names
    assert warnings(run()) == []


def test_dies_at_the_chosen_pass_and_lives_when_started_again(tmp_path: Path) -> None:
    file = tmp_path / "points"
    environment = {"FAILPOINT": "one.point:2", "FAILPOINTS_LOG": str(file)}
    died = run(**environment)
    assert died.returncode == -signal.SIGKILL
    assert file.read_text().splitlines() == [
        "passed one.point",
        "passed another.point",
        "killed one.point",
    ]
    again = run(**environment)
    assert again.returncode == 0
    assert "alive" in again.stdout
    assert warnings(again) == ["failpoints_are_on"]


def test_one_variable_alone_does_nothing_but_warn() -> None:
    done = run(FAILPOINT="one.point:1")
    assert done.returncode == 0
    assert "alive" in done.stdout
    assert warnings(done) == ["failpoint_ignored"]


def test_what_names_no_pass_is_ignored(tmp_path: Path) -> None:
    done = run(FAILPOINT="one.point", FAILPOINTS_LOG=str(tmp_path / "points"))
    assert done.returncode == 0
    assert warnings(done) == ["failpoint_ignored"]


def test_with_the_file_alone_it_notes_what_is_passed(tmp_path: Path) -> None:
    file = tmp_path / "points"
    assert run(FAILPOINTS_LOG=str(file)).returncode == 0
    assert file.read_text().splitlines() == ["passed one.point", "passed another.point"]


def test_an_order_kills_only_the_first_process_to_pass(tmp_path: Path) -> None:
    file = tmp_path / "points"
    order = failpoints.order_for(file, "another.point")
    order.touch()
    assert run(FAILPOINTS_LOG=str(file)).returncode == -signal.SIGKILL
    assert not order.exists()
    assert run(FAILPOINTS_LOG=str(file)).returncode == 0
    assert file.read_text().splitlines().count("killed another.point") == 1
