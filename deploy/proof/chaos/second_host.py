"""A second host: half of the processes in a network namespace of their own, at the end of a cable.

    this machine's network    the first host, 10.77.0.1      the second host, 10.77.0.2
    servers and harness  ───  gateway, first of each kind ═══ second of each kind
                         pipes                           cable

Both hosts are network namespaces inside a user namespace, which needs no privileges where the
machine allows it; this machine's own network is not touched. A program in the first, the agent,
lays the cable, a veth pair on a bridge, and pulls it out: the kernel drops what is sent then, and
nobody is told. It has sockets in both networks, for a socket stays where it was made, and so
carries requests in to the processes; what they ask of the servers comes out through the proxies of
the harness, which the agent lets listen at the first host's address.

A namespace lives as long as a process or a socket is in it: killed or not, a run leaves none.

    python -m deploy.proof.chaos.second_host 3    # the agent, with the harness at descriptor 3
"""

import asyncio
import contextlib
import json
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from deploy.local.supervisor import own_environment
from deploy.local.system import CHECKOUT, Instance, System
from deploy.proof.chaos.proxy import Proxy

FIRST, SECOND = "10.77.0.1", "10.77.0.2"
_TOOLS = ("unshare", "nsenter", "ip")
_ALONE = ("unshare", "--user", "--map-root-user", "--net", "--")
_HOLDER = ("unshare", "--net", "--", "sh", "-c", "echo; exec cat")
"""Holds the second namespace until its input ends; says by a line that it has made it."""
# The bridge keeps the first host's address when the cable is out: packets vanish at either end.
_FIRST_END = f"""
link set lo up
link add lan type bridge
address add {FIRST}/30 dev lan
link add cable type veth peer name eth0 netns %d
link set cable master lan
link set cable up
link set lan up
"""
_SECOND_END = f"""
link set lo up
address add {SECOND}/30 dev eth0
link set eth0 up
"""
_LONGEST_MESSAGE = 64 * 1024
_MOST_SOCKETS = 250  # in one message, unix(7)


class NoNamespaces(Exception):
    """The machine does not let us make namespaces; says what it lacks."""


class Network:
    """The two hosts, seen from the harness. Made by `own_network`."""

    def __init__(self, control: socket.socket, agent: int, say: Callable[[str], None]) -> None:
        self._control = control
        self._say = say
        [holder], _ = self._answer()
        user = f"/proc/{agent}/ns/user"
        self._namespaces = {
            FIRST: (user, f"/proc/{agent}/ns/net"),
            SECOND: (user, f"/proc/{holder}/ns/net"),
        }

    def namespaces_of(self, host: str) -> tuple[str, ...]:
        """Return the files of the namespaces that a process of a host joins, in order."""
        return self._namespaces[host]

    def listener(self) -> socket.socket:
        """Return a socket that listens at a free port of the first host."""
        _, [descriptor] = self._ask(["listen"])
        return socket.socket(fileno=descriptor)

    def house(self, system: System) -> System:
        """Return a system whose processes will be born in the hosts, each told where others are.

        They are found from here at the addresses that they would have without.
        """
        hosts = {instance.name: host_of(instance) for instance in system.instances}
        ports = {instance.readiness_port: host_of(instance) for instance in system.instances}
        self._let_in(ports)
        return replace(
            system,
            extra={i.name: _seen_from(system, i, ports) for i in system.instances},
            namespaces={name: self.namespaces_of(host) for name, host in hosts.items()},
        )

    @asynccontextmanager
    async def unplugged(self) -> AsyncIterator[None]:
        """Have the cable out during the block."""
        try:
            await self._set_cable("down")
            yield
        finally:
            await self._set_cable("up")

    async def _set_cable(self, state: str) -> None:
        [shown], _ = await asyncio.to_thread(self._ask, ["cable", state])
        self._say(f"the second host's cable: {shown}")

    def _let_in(self, ports: dict[int, str]) -> None:
        with contextlib.ExitStack() as ours:
            doors = [
                ours.enter_context(socket.create_server(("127.0.0.1", port))) for port in ports
            ]
            self._ask(["let in", *([host, port] for port, host in ports.items())], doors)

    def _ask(
        self, message: list[Any], sockets: Sequence[socket.socket] = ()
    ) -> tuple[list[Any], list[int]]:
        _send(self._control, message, sockets)
        return self._answer()

    def _answer(self) -> tuple[list[Any], list[int]]:
        answer = _receive(self._control)
        if answer is None:
            raise OSError("the agent has ended")
        return answer


@asynccontextmanager
async def own_network(log: Path, say: Callable[[str], None]) -> AsyncIterator[Network]:
    """Make the hosts until the end of the block; the agent's words are in the log.

    Raises NoNamespaces.
    """
    for tool in _TOOLS:
        if shutil.which(tool) is None:
            raise NoNamespaces(f"{tool} is not installed")
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            agent = await _start_agent(theirs, log)
        try:
            yield await _network(ours, agent.pid, log, say)
        finally:
            ours.close()
            await agent.wait()


async def _start_agent(theirs: socket.socket, log: Path) -> asyncio.subprocess.Process:
    with _opened(log) as out:
        return await asyncio.create_subprocess_exec(
            *(*_ALONE, sys.executable, "-m", __name__, str(theirs.fileno())),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env=own_environment(),
            cwd=CHECKOUT,
            pass_fds=(theirs.fileno(),),
            start_new_session=True,
        )


def _opened(log: Path) -> BinaryIO:
    log.parent.mkdir(parents=True, exist_ok=True)
    return log.open("wb")


async def _network(
    control: socket.socket, agent: int, log: Path, say: Callable[[str], None]
) -> Network:
    try:
        return await asyncio.to_thread(Network, control, agent, say)
    except OSError as error:
        raise NoNamespaces(_reason(log) or str(error)) from error


def _reason(log: Path) -> str:
    """Return the first line of a log that tells something: a tool's own words, or an exception."""
    lines = log.read_text(errors="replace").splitlines()
    return next((line for line in lines if not line.startswith(("Traceback", " "))), "")


def host_of(instance: Instance) -> str:
    """Return the address of the host that an instance lives at."""
    return SECOND if instance.name.endswith("-2") else FIRST


def _seen_from(system: System, instance: Instance, ports: dict[int, str]) -> dict[str, str]:
    """Return an instance's environment with the addresses that hold where it lives."""

    def there(found: re.Match[str]) -> str:
        port = int(found[1])
        return f"{ports[port]}:{port}" if port in ports else found[0]

    told = system.environment(instance)
    moved = {name: re.sub(r"127\.0\.0\.1:(\d+)", there, value) for name, value in told.items()}
    return {**moved, f"{instance.owner.upper()}_HOST": host_of(instance)}


def _send(
    control: socket.socket, message: list[Any], sockets: Sequence[socket.socket] = ()
) -> None:
    socket.send_fds(control, [json.dumps(message).encode()], [s.fileno() for s in sockets])


def _receive(control: socket.socket) -> tuple[list[Any], list[int]] | None:
    """Return a message and the sockets that came with it; None when the other side is gone."""
    data, descriptors, _, _ = socket.recv_fds(control, _LONGEST_MESSAGE, _MOST_SOCKETS)
    return (json.loads(data), descriptors) if data else None


async def _serve(control: socket.socket) -> None:
    """Be the agent until the harness is gone."""
    async with AsyncExitStack() as doors:
        while received := await asyncio.to_thread(_receive, control):
            match received:
                case ["listen"], _:
                    with socket.create_server((FIRST, 0)) as listener:
                        _send(control, [], [listener])
                case ["let in", *targets], descriptors:
                    for (host, port), descriptor in zip(targets, descriptors, strict=True):
                        door = Proxy(host)
                        door.target = port
                        listener = socket.socket(fileno=descriptor)
                        await doors.enter_async_context(door.running(listener))
                    _send(control, [])
                case ["cable", state], _:
                    _send(control, [_ip(f"link set cable {state}\nlink show cable").strip()])


def _ip(commands: str, *, within: Sequence[str] = ()) -> str:
    """Run lines of `ip`'s. Raises CalledProcessError; its own words are in the log."""
    line = (*within, "ip", "-brief", "-batch", "-")
    return subprocess.run(
        line, input=commands, stdout=subprocess.PIPE, text=True, check=True
    ).stdout


def _main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    with subprocess.Popen(_HOLDER, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        _ip(_FIRST_END % holder.pid)
        _ip(_SECOND_END, within=("nsenter", f"--net=/proc/{holder.pid}/ns/net"))
        _send(control, [holder.pid])
        asyncio.run(_serve(control))


if __name__ == "__main__":
    _main()
