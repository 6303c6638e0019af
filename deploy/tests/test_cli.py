"""The command as a user runs it: exit codes, and errors in two lines."""

import os
import secrets
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deploy.cli import ELSEWHERE, app
from deploy.local.servers import locked
from deploy.local.system import CHECKOUT

GIVEN = {"CARNET_TEST_DATABASE_URL": "postgresql://a/b", "CARNET_TEST_RABBITMQ_URL": "amqp://c"}


def carnet(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from deploy.cli import app; app()", *arguments],
        cwd=CHECKOUT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_servers_that_are_given_are_used_and_the_exit_code_passed_on(tmp_path: Path) -> None:
    script = 'echo "$CARNET_TEST_DATABASE_URL"; exit 7'
    folder = str(tmp_path / "never")
    done = carnet("with-servers", "--data", folder, "--", "sh", "-c", script, **GIVEN)
    assert done.returncode == 7
    assert done.stdout == "postgresql://a/b\n"
    assert not (tmp_path / "never").exists()


def test_options_of_the_command_are_the_commands_own() -> None:
    assert carnet("with-servers", "--", "printf", "%s", "--data", **GIVEN).stdout == "--data"


def test_a_command_killed_by_a_signal_counts_as_in_a_shell() -> None:
    done = carnet("with-servers", "--", "sh", "-c", "kill -TERM $$", **GIVEN)
    assert done.returncode == 128 + signal.SIGTERM


def test_a_used_port_is_reported_and_nothing_is_started(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = carnet("up", CARNET_PORT=str(port), CARNET_DATA=str(tmp_path))
    assert_explained(done, f"Port {port} is used", "CARNET_PORT=")
    assert not (tmp_path / "postgres").exists()


def test_a_folder_in_use_is_reported(tmp_path: Path) -> None:
    with locked(tmp_path):
        done = carnet("up", CARNET_DATA=str(tmp_path))
    assert_explained(done, "Another start uses the data folder", "CARNET_DATA")


def test_a_bad_setting_is_reported() -> None:
    assert_explained(carnet("up", CARNET_PORT="eighty"), "CARNET_PORT is 'eighty'", "1 to 65535")


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("VOUCHERS_PENDING_HOURS", "soon", "must be a valid integer"),
        ("PAYMENTS_ACCOUNTS", "each", "must be 'installation' or 'organization'"),
        ("PAYMENTS_GATEWAYS", "stripe", "must be JSON"),
        ("PAYMENTS_GATEWAYS", '{"cash": "barter"}', "'barter' is not the name"),
        ("GATEWAY_CORS_ORIGINS", "*", "is not an origin"),
        ("IDENTITY_LOG_LEVEL", "loud", "must be 'DEBUG'"),
    ],
)
def test_a_bad_setting_of_a_service_is_reported_before_anything_starts(
    tmp_path: Path, name: str, value: str, rule: str
) -> None:
    done = carnet("up", CARNET_PORT="28081", CARNET_DATA=str(tmp_path), **{name: value})
    assert_explained(done, f"{name}: ", rule)
    assert "pydantic.dev" not in done.stderr
    assert not (tmp_path / "postgres").exists()


def test_missing_servers_are_reported(tmp_path: Path) -> None:
    done = carnet(
        "up",
        CARNET_DATA=str(tmp_path),
        CARNET_PORT="28080",
        CARNET_DATABASE_URL="postgresql://nobody:x@127.0.0.1:1/carnet",
        CARNET_RABBITMQ_URL="amqp://127.0.0.1:1/",
        CARNET_RABBITMQ_MANAGEMENT_URL="http://nobody:x@127.0.0.1:1",
    )
    assert_explained(done, "cannot be used", "Check")


def test_status_of_nothing(tmp_path: Path) -> None:
    done = carnet("status", CARNET_DATA=str(tmp_path))
    assert done.returncode == 1
    assert "Start it with: make run" in done.stdout


@pytest.mark.parametrize(
    "command",
    [("demo",), ("status",), ("audit", "verify"), ("keys", "list"), ("dead-letters", "list")],
)
def test_the_port_of_another_system_is_reported(tmp_path: Path, command: tuple[str, ...]) -> None:
    (tmp_path / "stack.json").write_text('{"address": "http://127.0.0.1:8080"}')
    unset = dict.fromkeys(("IDENTITY_DATABASE_URL", "CARNET_RABBITMQ_URL"), "")
    done = carnet(*command, CARNET_DATA=str(tmp_path), CARNET_PORT="9000", **unset)
    assert_explained(done, "not at the port of CARNET_PORT=9000", "CARNET_DATA")


def test_keys_of_no_system(tmp_path: Path) -> None:
    unset = {"IDENTITY_DATABASE_URL": "", "IDENTITY_SIGNING_SECRET": ""}
    done = carnet("keys", "rotate", CARNET_DATA=str(tmp_path), **unset)
    assert_explained(done, "No system runs", "make run")


def test_keys_with_half_of_the_settings() -> None:
    half = {
        "IDENTITY_DATABASE_URL": "postgresql://u:p@127.0.0.1:1/x",
        "IDENTITY_SIGNING_SECRET": "",
    }
    done = carnet("keys", "list", **half)
    assert_explained(done, "signing_secret", "IDENTITY_SIGNING_SECRET")


def test_keys_of_a_database_that_is_not_there() -> None:
    given = {
        "IDENTITY_DATABASE_URL": "postgresql://u:hidden@127.0.0.1:1/x",
        "IDENTITY_SIGNING_SECRET": secrets.token_urlsafe(32),
    }
    done = carnet("keys", "list", **given)
    assert_explained(done, "The database failed", "Nothing was changed")
    assert "hidden" not in done.stderr


def assert_explained(done: subprocess.CompletedProcess[str], problem: str, remedy: str) -> None:
    assert done.returncode == 1
    assert problem in done.stderr
    assert remedy in done.stderr
    assert "Traceback" not in done.stderr


def test_every_command_is_listed_and_has_its_own_page() -> None:
    # In this process: every command of its own would import the same libraries again.
    listed = CliRunner().invoke(app, ["--help"]).stdout
    for name in ("up", "status", "with-servers", *ELSEWHERE):
        assert f"│ {name} " in listed
        page = CliRunner().invoke(app, [name, "--help"]).stdout
        assert f" {name} " in page.split("[OPTIONS]")[0]


def test_an_interrupted_start_shows_no_traceback(tmp_path: Path) -> None:
    program = """
import os, signal, sys
class Interruption:
    def find_spec(self, name, path=None, target=None):
        if name == "typer":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interruption())
sys.argv = ["carnet", "up"]
from deploy.entry import main
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=CHECKOUT,
        env={**os.environ, "CARNET_DATA": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 130
    assert done.stderr == ""


def test_a_start_imports_no_command_but_its_own() -> None:
    program = (
        "import sys, deploy.cli as cli;"
        " print([name for name in cli.ELSEWHERE.values() if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
