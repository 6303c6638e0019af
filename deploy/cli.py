"""The `carnet` command."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from deploy.local.errors import StartError
from deploy.local.servers import Servers, running_servers

app = typer.Typer(
    help="Run and operate Carnet.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

DATABASE_VARIABLE = "CARNET_TEST_DATABASE_URL"
RABBITMQ_VARIABLE = "CARNET_TEST_RABBITMQ_URL"


@app.callback()
def carnet() -> None:
    """Run and operate Carnet."""


def say(line: str) -> None:
    """Tell a person one line, on standard error: output belongs to commands."""
    print(f"carnet: {line}", file=sys.stderr, flush=True)


def run(work: Coroutine[Any, Any, int]) -> None:
    """Exit with what a command returns; an error meant for people is two lines, no traceback."""
    try:
        code = asyncio.run(work)
    except StartError as error:
        say(error.problem)
        print(f"        {error.remedy}", file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        code = 130
    raise typer.Exit(code)


@app.command("with-servers", context_settings={"ignore_unknown_options": True})
def with_servers(
    command: Annotated[list[str], typer.Argument(help="The command to run, after --.")],
    data: Annotated[Path, typer.Option(help="Folder of the servers' data.")] = Path(".carnet/test"),
) -> None:
    """Run COMMAND with a PostgreSQL and a RabbitMQ of its own.

    Their addresses are in CARNET_TEST_DATABASE_URL (a superuser's) and CARNET_TEST_RABBITMQ_URL
    (append /test-0 … /test-7). When both are set already, COMMAND runs with those.
    """
    run(_with_servers(command, data.resolve()))


async def _with_servers(command: list[str], data: Path) -> int:
    if DATABASE_VARIABLE in os.environ and RABBITMQ_VARIABLE in os.environ:
        return await _run_command(command, {})
    async with running_servers(data, say) as servers:
        return await _run_command(command, _addresses(servers))


def _addresses(servers: Servers) -> dict[str, str]:
    return {DATABASE_VARIABLE: servers.database_url, RABBITMQ_VARIABLE: servers.rabbitmq_url}


async def _run_command(command: list[str], addresses: dict[str, str]) -> int:
    try:
        process = await asyncio.create_subprocess_exec(*command, env={**os.environ, **addresses})
    except OSError as error:
        raise StartError(
            f"{command[0]} cannot be run: {error.strerror}.", "Check its name."
        ) from error
    with handling((signal.SIGINT, signal.SIGTERM), lambda number: _pass_on(process, number)):
        code = await process.wait()
    return code if code >= 0 else 128 - code


def _pass_on(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)


@contextmanager
def handling(
    numbers: tuple[signal.Signals, ...], handle: Callable[[signal.Signals], None]
) -> Iterator[None]:
    """Let `handle` have signals inside the running loop, and give them back afterwards."""
    loop = asyncio.get_running_loop()
    for number in numbers:
        loop.add_signal_handler(number, handle, number)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
