"""A second host: half of the processes run in their own network namespace, behind a cable.

    this machine's network    the first host, 10.77.0.1      the second host, 10.77.0.2
    servers and harness  ───  gateway, first of each kind ═══ second of each kind
                         pipes                           cable

Both hosts are network namespaces inside a user namespace, which needs no privileges where the
machine allows it. This machine's own network does not change. A program in the first namespace, the
agent, creates the cable, a veth pair on a bridge, and unplugs it: then the kernel drops all packets
without an error. A socket stays in the namespace in which it was created, so the agent has sockets
in both networks and forwards requests to the processes. The processes reach the servers through the
proxies of the harness, for which the agent creates sockets at the first host's address.

A namespace exists as long as a process or a socket is in it, so even a killed run leaves none.

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
from typing import Any

from deploy.local.supervisor import own_environment
from deploy.local.system import CHECKOUT, Instance, System
from deploy.proof.chaos.proxy import Proxy

FIRST, SECOND = "10.77.0.1", "10.77.0.2"
_TOOLS = ("unshare", "nsenter", "ip")
_IN_NEW_NAMESPACE = ("unshare", "--user", "--map-root-user", "--net", "--")
_HOLDER = ("unshare", "--net", "--", "sh", "-c", "echo; exec cat")
"""Holds the second namespace until its input ends; prints a line when the namespace exists."""
# The bridge keeps the first host's address when the cable is unplugged: packets are lost.
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
    """The machine cannot create namespaces. The message is the reason."""


class Network:
    """The two hosts, as the harness controls them. Created by `own_network`."""

    def __init__(self, control: socket.socket, agent: int, say: Callable[[str], None]) -> None:
        self._control = control
        self._say = say
        [holder], _ = self._receive_answer()
        user = f"/proc/{agent}/ns/user"
        self._namespaces = {
            FIRST: (user, f"/proc/{agent}/ns/net"),
            SECOND: (user, f"/proc/{holder}/ns/net"),
        }

    def namespaces_of(self, host: str) -> tuple[str, ...]:
        """Return the files of the namespaces that a process of a host joins, in order."""
        return self._namespaces[host]

    def listener(self) -> socket.socket:
        """Return a socket that listens on a free port of the first host."""
        _, [descriptor] = self._call(["listen"])
        return socket.socket(fileno=descriptor)

    def move(self, system: System) -> System:
        """Return the system with its processes on the two hosts and with their addresses there.

        This machine reaches them at their original addresses.
        """
        hosts = {instance.name: host_of(instance) for instance in system.instances}
        ports = {instance.readiness_port: host_of(instance) for instance in system.instances}
        with contextlib.ExitStack() as stack:
            listeners = [
                stack.enter_context(socket.create_server(("127.0.0.1", port))) for port in ports
            ]
            self._call(["forward", *([host, port] for port, host in ports.items())], listeners)
        return replace(
            system,
            extra={i.name: _environment_on_host(system, i, ports) for i in system.instances},
            namespaces={name: self.namespaces_of(host) for name, host in hosts.items()},
        )

    @asynccontextmanager
    async def unplugged(self) -> AsyncIterator[None]:
        """Unplug the cable during the block."""
        try:
            await self._set_cable("down")
            yield
        finally:
            await self._set_cable("up")

    async def _set_cable(self, state: str) -> None:
        [output], _ = await asyncio.to_thread(self._call, ["cable", state])
        self._say(f"the second host's cable: {output}")

    def _call(
        self, message: list[Any], sockets: Sequence[socket.socket] = ()
    ) -> tuple[list[Any], list[int]]:
        _send(self._control, message, sockets)
        return self._receive_answer()

    def _receive_answer(self) -> tuple[list[Any], list[int]]:
        answer = _receive(self._control)
        if answer is None:
            raise OSError("the agent has ended")
        return answer


@asynccontextmanager
async def own_network(log: Path, say: Callable[[str], None]) -> AsyncIterator[Network]:
    """Create the hosts until the end of the block; the agent writes into the log.

    Raises NoNamespaces if the machine cannot create them.
    """
    for tool in _TOOLS:
        if shutil.which(tool) is None:
            raise NoNamespaces(f"{tool} is not installed")
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            agent = await _start_agent(theirs, log)
        try:
            try:
                network = await asyncio.to_thread(Network, ours, agent.pid, say)
            except OSError as error:
                raise NoNamespaces(_reason(log) or str(error)) from error
            yield network
        finally:
            ours.close()
            await agent.wait()


async def _start_agent(theirs: socket.socket, log: Path) -> asyncio.subprocess.Process:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as out:
        return await asyncio.create_subprocess_exec(
            *(*_IN_NEW_NAMESPACE, sys.executable, "-m", __name__, str(theirs.fileno())),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env=own_environment(),
            cwd=CHECKOUT,
            pass_fds=(theirs.fileno(),),
            start_new_session=True,
        )


def _reason(log: Path) -> str:
    """Return the first line of a log with a message of a tool or of an exception."""
    lines = log.read_text(errors="replace").splitlines()
    return next((line for line in lines if not line.startswith(("Traceback", " "))), "")


def host_of(instance: Instance) -> str:
    """Return the address of an instance's host."""
    return SECOND if instance.name.endswith("-2") else FIRST


def _environment_on_host(
    system: System, instance: Instance, ports: dict[int, str]
) -> dict[str, str]:
    """Return an instance's environment with the addresses that are valid on its host."""

    def address(match: re.Match[str]) -> str:
        port = int(match[1])
        return f"{ports[port]}:{port}" if port in ports else match[0]

    variables = {
        name: re.sub(r"127\.0\.0\.1:(\d+)", address, value)
        for name, value in system.environment(instance).items()
    }
    return {**variables, f"{instance.owner.upper()}_HOST": host_of(instance)}


def _send(
    control: socket.socket, message: list[Any], sockets: Sequence[socket.socket] = ()
) -> None:
    socket.send_fds(control, [json.dumps(message).encode()], [s.fileno() for s in sockets])


def _receive(control: socket.socket) -> tuple[list[Any], list[int]] | None:
    """Return a message and its sockets, or None if the other side is closed."""
    data, descriptors, _, _ = socket.recv_fds(control, _LONGEST_MESSAGE, _MOST_SOCKETS)
    return (json.loads(data), descriptors) if data else None


async def _serve(control: socket.socket) -> None:
    """Run the agent until the harness closes the connection."""
    async with AsyncExitStack() as stack:
        while message := await asyncio.to_thread(_receive, control):
            match message:
                case ["listen"], _:
                    with socket.create_server((FIRST, 0)) as listener:
                        _send(control, [], [listener])
                case ["forward", *targets], descriptors:
                    for (host, port), descriptor in zip(targets, descriptors, strict=True):
                        proxy = Proxy(host)
                        proxy.target = port
                        listener = socket.socket(fileno=descriptor)
                        await stack.enter_async_context(proxy.running(listener))
                    _send(control, [])
                case ["cable", state], _:
                    _send(control, [_ip(f"link set cable {state}\nlink show cable").strip()])


def _ip(commands: str, *, within: Sequence[str] = ()) -> str:
    """Run commands of `ip`. Raises CalledProcessError; the messages are in the log."""
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
