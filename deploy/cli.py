"""The `carnet` command. Larger commands are modules of their own, registered here."""

import asyncio
import contextlib
import errno
import importlib
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from deploy.local.console import errors, output, say, say_and_log
from deploy.local.description import find_description, get_description
from deploy.local.errors import StartError
from deploy.local.interrupts import Interrupts, StopRequests, exit_with, ignore
from deploy.local.processes import Identity
from deploy.local.servers import running_servers
from deploy.local.settings import StackSettings
from deploy.local.stack import running_stack
from deploy.local.summary import near, summary
from deploy.local.supervisor import rotate

ELSEWHERE: Mapping[str, str] = {
    "audit": "deploy.operate.audit",
    "bench": "deploy.proof.bench.command",
    "broker": "deploy.operate.broker.command",
    "chaos": "deploy.proof.chaos.command",
    "check-migrations": "deploy.checks.migrations",
    "check-source": "deploy.checks.source",
    "dead-letters": "deploy.operate.dead_letters",
    "demo": "deploy.demo.command",
    "event-shapes": "deploy.checks.event_shapes.command",
    "keys": "deploy.operate.keys",
    "mail-catalogues": "deploy.checks.catalogues",
    "mails": "deploy.operate.mails",
    "upgrade": "deploy.upgrade.operator.command",
}
"""Commands that are modules of their own, each with an `app`.

They are imported when they are used, because importing all of them takes three seconds.
"""


class Commands(TyperGroup):
    """Finds the commands, and shows errors in two lines without a traceback."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all commands."""
        return [*super().list_commands(ctx), *ELSEWHERE]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command, or None if there is none of this name."""
        if cmd_name not in self.commands and cmd_name in ELSEWHERE:
            module = importlib.import_module(ELSEWHERE[cmd_name])
            command = typer.main.get_command(module.app)
            command.name = cmd_name
            self.add_command(command)
        return super().get_command(ctx, cmd_name)

    def invoke(self, ctx: Any) -> Any:
        """Run a command; a StartError or a full disk ends it with exit code 1."""
        try:
            return super().invoke(ctx)
        except StartError as error:
            say(error.problem)
            errors.write(f"        {error.remedy}")
            raise typer.Exit(1) from error
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            say(f"The disk is full: {error}.")
            errors.write("        Free some space and repeat the command.")
            raise typer.Exit(1) from error


app = typer.Typer(
    cls=Commands,
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


@app.command()
def up() -> None:
    """Start the whole system here and keep it running until Ctrl-C.

    Settings are environment variables: CARNET_PORT, CARNET_DATA, CARNET_ADMIN_EMAIL,
    CARNET_ADMIN_PASSWORD, CARNET_DATABASE_URL, CARNET_RABBITMQ_URL,
    CARNET_RABBITMQ_MANAGEMENT_URL, CARNET_INSTANCES,
    CARNET_SMTP_URL, CARNET_MAIL_FROM, CARNET_PUBLIC_URL,
    STRIPE_API_BASE, STRIPE_API_KEY, STRIPE_WEBHOOK_SECRET.
    """
    exit_with(_up)


@app.command()
def status() -> None:
    """Show whether a system runs in the data folder, and its processes."""
    settings = StackSettings.from_environment()
    if find_description(settings.data) is None:
        print(f"Nothing runs in {near(settings.data)}. Start it with: make run")
        raise typer.Exit(1)
    description = get_description(settings, otherwise="Start it with: make run")
    print(f"Carnet at {description['address']}, logs in {description['logs']}")
    for name, pid in sorted(description["pids"].items()):
        print(f"  {name:<24}{pid}{'' if Identity.of(pid) else '  (gone)'}")


@app.command("with-servers", context_settings={"ignore_unknown_options": True})
def with_servers(
    command: Annotated[list[str], typer.Argument(help="The command to run, after --.")],
    data: Annotated[Path, typer.Option(help="Folder of the servers' data.")] = Path(".carnet/test"),
) -> None:
    """Run COMMAND with a PostgreSQL and a RabbitMQ of its own.

    CARNET_TEST_DATABASE_URL has the address for a superuser, CARNET_TEST_RABBITMQ_URL that of the
    broker (append /test-0 … /test-7). If both are set already, COMMAND runs with those servers.
    """
    folder = data.resolve()
    exit_with(lambda interrupts: _with_servers(command, folder, interrupts))


async def _up(interrupts: Interrupts) -> int:
    settings = StackSettings.from_environment()
    start = time.monotonic()
    log = settings.data / "logs" / "carnet.log"
    rotate(log)
    inform = say_and_log(log)
    async with running_stack(settings, say=inform) as stack:
        await asyncio.to_thread(errors.drain, 1.0)  # earlier messages go first
        output.write(summary(stack, time.monotonic() - start))
        requests = StopRequests(stack.supervisor.stop_now, inform)
        interrupts.handler = requests.receive
        await requests.wait()
    inform("stopped")
    return 0


async def _with_servers(command: list[str], data: Path, interrupts: Interrupts) -> int:
    if DATABASE_VARIABLE in os.environ and RABBITMQ_VARIABLE in os.environ:
        return await _run_command(command, {}, interrupts)
    async with running_servers(data, say) as servers:
        addresses = {
            DATABASE_VARIABLE: servers.database_url,
            RABBITMQ_VARIABLE: servers.rabbitmq_url,
        }
        return await _run_command(command, addresses, interrupts)


async def _run_command(
    command: list[str], addresses: dict[str, str], interrupts: Interrupts
) -> int:
    try:
        process = await asyncio.create_subprocess_exec(*command, env={**os.environ, **addresses})
    except OSError as error:
        raise StartError(
            f"{command[0]} cannot be run: {error.strerror}.", "Check the command after --."
        ) from error

    def pass_on(number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)

    interrupts.handler = pass_on
    code = await process.wait()
    interrupts.handler = ignore
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    app()
