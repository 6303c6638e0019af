"""Waiting until processes are ready, and the reason if one is not."""

import sys
from pathlib import Path

import pytest

from deploy.local.errors import StartError
from deploy.local.ports import Ports
from deploy.local.readiness import answer, wait_until_ready
from deploy.local.servers import one_failure
from deploy.local.supervisor import Program, Supervisor, own_environment
from deploy.local.system import Instance
from shared.testing import until

pytestmark = pytest.mark.anyio

# Answers /health/ready with the status and body it is given, the first time with 503.
_SERVER = """
import http.server, sys

class Answer(http.server.BaseHTTPRequestHandler):
    asked = 0

    def do_GET(self):
        Answer.asked += 1
        self.send_response(503 if Answer.asked == 1 else int(sys.argv[2]))
        self.end_headers()
        self.wfile.write(sys.argv[3].encode())

http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Answer).serve_forever()
"""


async def started(folder: Path, supervisor: Supervisor, status: int, body: str) -> Instance:
    port = Ports(folder / "ports.json").choose("api")
    command = (sys.executable, "-c", _SERVER, str(port), str(status), body)
    await supervisor.start(Program("api", command, own_environment(), folder))
    return Instance("api", "", "vouchers", port, 0)


async def test_a_process_is_awaited_until_it_is_ready(
    tmp_path: Path, supervisor: Supervisor
) -> None:
    instance = await started(tmp_path, supervisor, 200, '{"status": "ready"}')
    await wait_until_ready([instance], supervisor, seconds=60)


async def _answers(instance: Instance) -> bool:
    try:
        return bool(await answer(instance.readiness_port, "/health/ready"))
    except (OSError, TimeoutError):
        return False


@pytest.mark.parametrize("status", [503, 200], ids=["not-ready", "degraded"])
async def test_what_is_missing_is_reported(
    tmp_path: Path, supervisor: Supervisor, status: int
) -> None:
    instance = await started(tmp_path, supervisor, status, '{"missing": ["database", "queue x"]}')
    await until(lambda: _answers(instance))
    with pytest.raises(StartError, match="api is not ready: missing database, queue x"):
        async with one_failure():
            await wait_until_ready([instance], supervisor, seconds=3)


async def test_a_process_that_keeps_dying_is_not_awaited_for_long(
    tmp_path: Path, supervisor: Supervisor
) -> None:
    script = ("/bin/sh", "-c", "echo no settings; exit 1")
    await supervisor.start(Program("api", script, own_environment(), tmp_path))
    port = Ports(tmp_path / "ports.json").choose("api")
    with pytest.raises(StartError, match="it does not answer"):
        async with one_failure():
            instance = Instance("api", "", "vouchers", port, 0)
            await wait_until_ready([instance], supervisor, seconds=60)


async def test_a_process_that_was_killed_often_is_awaited_all_the_same(
    tmp_path: Path, supervisor: Supervisor
) -> None:
    instance = await started(tmp_path, supervisor, 200, '{"status": "ready"}')
    for start in (2, 3, 4):
        supervisor.kill("api")
        await supervisor.wait_for_start("api", start)
    await wait_until_ready([instance], supervisor, seconds=60)
