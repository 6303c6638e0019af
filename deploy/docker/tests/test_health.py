"""A container is healthy when its operations port answers with status 200."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from deploy.docker.environment import CHECKOUT


class Process(BaseHTTPRequestHandler):
    """Lives, and is not ready."""

    def do_GET(self) -> None:
        self.send_response(503 if self.path == "/health/ready" else 200)
        self.end_headers()
        self.wfile.write(b'{"missing":["database"]}')

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), Process) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def check(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-S", CHECKOUT / "deploy/docker/health.py", *arguments],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_process_that_is_not_ready_is_not_healthy(port: int) -> None:
    found = check(AUDIT_OPERATIONS_PORT=str(port))
    assert found.returncode == 1
    assert "database" in found.stdout


def test_another_path_may_be_asked(port: int) -> None:
    assert check("/health", GATEWAY_OPERATIONS_PORT=str(port)).returncode == 0


def test_a_port_without_a_server(unused_port: int) -> None:
    assert check(AUDIT_OPERATIONS_PORT=str(unused_port)).returncode == 1


@pytest.fixture
def unused_port(port: int) -> int:
    with HTTPServer(("127.0.0.1", 0), Process) as server:
        return server.server_port


def test_a_missing_port_is_reported() -> None:
    found = check()
    assert found.returncode == 1
    assert "_OPERATIONS_PORT" in found.stdout
