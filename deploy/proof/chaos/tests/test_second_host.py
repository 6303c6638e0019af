"""The second host is reached, can be cut off, and ends with the run."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.local.settings import StackSettings
from deploy.local.stack import Stack
from deploy.local.supervisor import Supervisor, own_environment
from deploy.local.system import CHECKOUT, System
from deploy.proof.chaos.platform import INSTANCES
from deploy.proof.chaos.second_host import FIRST, SECOND, Network, NoNamespaces, own_network
from shared.testing import until

pytestmark = pytest.mark.anyio

ECHO = "deploy.proof.chaos.tests.echo"
MOVED = "vouchers-api-2"
SILENCE_SECONDS = 1.0


@pytest.fixture
async def network(tmp_path: Path, messages: list[str]) -> AsyncIterator[Network]:
    try:
        async with own_network(tmp_path / "second-host.log", messages.append) as network:
            yield network
    except NoNamespaces as reason:
        pytest.skip(f"no namespace can be made here: {reason}")


@pytest.fixture
def system(tmp_path: Path, network: Network) -> System:
    """The system of a run, whose processes have moved, with servers that are not needed."""
    settings = StackSettings(
        data=tmp_path,
        port=0,
        database_url="postgresql://root:secret@db.example/organization",
        rabbitmq_url="amqp://u:p@mq.example/",
        smtp_url="smtp://mail.example:25",
        instances=INSTANCES,
    )
    return network.move(Stack(settings, print, {}).system)


@asynccontextmanager
async def echoing(system: System, supervisor: Supervisor) -> AsyncIterator[int]:
    """Run the echo in a service's place; give the port at which it is found from here."""
    instance = next(one for one in system.instances if one.name == MOVED)
    program = System.own_program(
        MOVED, ECHO, {**own_environment(), "HOST": SECOND, "PORT": str(instance.port)}
    )
    await supervisor.start(replace(program, namespaces=system.namespaces[MOVED]))
    assert instance.port is not None

    async def answers() -> bool:
        return await _said_back(instance.port or 0) == b"there\n"

    await until(answers)
    yield instance.port


async def _said_back(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"there\n")
        return await reader.readline()
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_each_process_gets_the_addresses_of_the_others(system: System) -> None:
    for name, own in (("vouchers-worker", FIRST), ("vouchers-worker-2", SECOND)):
        instance = next(one for one in system.instances if one.name == name)
        told = system.environment(instance)
        ports = [api.port for api in system.apis("payments")]
        assert told["VOUCHERS_HOST"] == own
        assert told["VOUCHERS_PAYMENTS_URL"] == (
            f"http://{FIRST}:{ports[0]},http://{SECOND}:{ports[1]}"
        )
        assert "127.0.0.1" not in str(told)


async def test_it_has_a_network_of_its_own(system: System, supervisor: Supervisor) -> None:
    async with echoing(system, supervisor):
        pid = supervisor.pids()[MOVED]
        # Some kernels give each new namespace the idle ends of their tunnels.
        assert devices(pid) >= {"lo", "eth0"}
        assert namespace(pid) not in ("", namespace(os.getpid()))


async def test_nothing_passes_and_no_connection_ends_while_it_is_cut_off(
    system: System, supervisor: Supervisor, network: Network, messages: list[str]
) -> None:
    async with echoing(system, supervisor) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        async with network.unplugged():
            writer.write(b"lost?\n")
            old = asyncio.ensure_future(reader.readline())
            new = asyncio.ensure_future(_said_back(port))
            done, _ = await asyncio.wait({old, new}, timeout=SILENCE_SECONDS)
            assert not done
            assert "DOWN" in messages[-1]
        async with asyncio.timeout(10):
            assert await old == b"lost?\n"
            assert await new == b"there\n"
        assert "LOWER_UP" in messages[-1]
        writer.close()


OF_A_RUN = f"""
import asyncio
from pathlib import Path
from deploy.proof.chaos.second_host import own_network
from deploy.local.supervisor import Program, Supervisor, own_environment

async def run():
    folder = Path({{folder!r}})
    async with own_network(folder / "second-host.log", print) as network:
        place = network.namespaces_of("{SECOND}")
        told = {{{{**own_environment(), "HOST": "{SECOND}", "PORT": "7000"}}}}
        supervisor = Supervisor(folder, print)
        await supervisor.start(Program("e", (), told, Path(), module="{ECHO}", namespaces=place))
        print(supervisor.pids()["e"], flush=True)
        await asyncio.sleep(600)

asyncio.run(run())
"""


@pytest.mark.usefixtures("network")
async def test_nothing_is_left_of_it_when_its_run_is_killed(tmp_path: Path) -> None:
    run = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", OF_A_RUN.format(folder=str(tmp_path))),
        stdout=asyncio.subprocess.PIPE,
        cwd=CHECKOUT,
    )
    assert run.stdout is not None
    pid = int(await run.stdout.readline())

    async def moved() -> bool:
        return namespace(pid) not in ("", namespace(os.getpid()))

    await until(moved)
    place = namespace(pid)
    run.send_signal(signal.SIGKILL)
    await run.wait()

    async def all_gone() -> bool:
        return place not in {namespace(int(entry.name)) for entry in running()}

    await until(all_gone)


async def test_a_machine_that_cannot_reports_what_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoNamespaces, match="unshare is not installed"):
        async with own_network(tmp_path / "log", print):
            pass


async def test_a_machine_that_does_not_let_us_reports_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for tool in ("nsenter", "ip"):
        (tmp_path / tool).symlink_to("/bin/true")
    refusal = tmp_path / "unshare"
    refusal.write_text("#!/bin/sh\necho 'unshare failed: Operation not permitted' >&2\nexit 1\n")
    refusal.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    with pytest.raises(NoNamespaces, match="not permitted"):
        async with own_network(tmp_path / "log", print):
            pass


def namespace(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/net")
    except OSError:
        return ""


def devices(pid: int) -> set[str]:
    lines = Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]
    return {line.partition(":")[0].strip() for line in lines}


def running() -> list[Path]:
    return list(Path("/proc").glob("[0-9]*"))
