"""`carnet mails`: shows the messages that wait or were given up; sends them again or deletes them.

The contents are never shown: they may contain a link that is as good as a password.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from typing import Annotated, Any, TypeVar

import typer
from pydantic import SecretStr
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from deploy.local.description import get_description
from deploy.local.errors import StartError
from deploy.local.settings import StackSettings
from shared.db import make_engine
from shared.mail import queue
from shared.mail.table import MailState
from shared.settings import asyncpg_url
from shared.transactions import Transactions

T = TypeVar("T")

app = typer.Typer(help="Look at messages that were not sent; send them again or delete them.")


class ServiceName(StrEnum):
    """A service that sends mail."""

    IDENTITY = "identity"
    VOUCHERS = "vouchers"
    PAYMENTS = "payments"


Service = Annotated[ServiceName, typer.Argument(help="The service that sends the message.")]
Ids = Annotated[list[int] | None, typer.Argument(help="Ids of messages, as `list` prints them.")]
All = Annotated[bool, typer.Option("--all", help="Every parked message of the service.")]


@app.command("list")
def list_mails(
    services: Annotated[
        list[ServiceName] | None, typer.Argument(help="Services; all if none is named.")
    ] = None,
    state: Annotated[MailState, typer.Option(help="Which messages.")] = MailState.PARKED,
    limit: Annotated[int, typer.Option(min=1, help="At most so many of each service.")] = 50,
) -> None:
    """Print the parked messages of each service, or those in another state, the newest first."""
    for service in services or ServiceName:
        rows = _in_service(
            service,
            lambda session: queue.list_mails(session, state=state.value, ids=None, limit=limit),
        )
        for row in rows:
            print(f"{service:<10} {_line(row)}")
        if not rows:
            print(f"{service:<10} no message is {state.value}")


@app.command()
def show(service: Service, ids: Annotated[list[int], typer.Argument(help="Ids.")]) -> None:
    """Print what is known of messages, but their contents."""
    rows = _in_service(
        service, lambda session: queue.list_mails(session, state=None, ids=ids, limit=len(ids))
    )
    for row in rows:
        print("\n".join(f"{name:<16} {_shown(value)}" for name, value in row.items()), end="\n\n")
    missing_ids = sorted(set(ids) - {row["id"] for row in rows})
    if missing_ids:
        numbers = ", ".join(map(str, missing_ids))
        raise StartError(f"There is no message {numbers} in {service}.", "See `carnet mails list`.")


@app.command()
def retry(service: Service, ids: Ids = None, everything: All = False) -> None:
    """Let parked messages wait again: they are tried for another day."""
    selection = _selection(ids, everything)
    retried_ids = _in_service(service, lambda session: queue.retry(session, selection))
    print(f"{len(retried_ids)} will be sent again by {service}.")


@app.command()
def drop(service: Service, ids: Ids = None, everything: All = False) -> None:
    """Delete parked messages permanently."""
    selection = _selection(ids, everything)
    dropped_ids = _in_service(service, lambda session: queue.drop(session, selection))
    print(f"{len(dropped_ids)} deleted from {service}.")


def _selection(ids: list[int] | None, everything: bool) -> list[int] | None:
    """Return the selected ids, or None for all. Raises StartError unless ids or --all are given."""
    if bool(ids) == everything:
        raise StartError("No messages are selected.", "Name their ids, or use --all.")
    return None if everything else ids


def _in_service(service: str, work: Callable[[AsyncSession], Awaitable[T]]) -> T:
    """Run one transaction in a service's database, with the service's role.

    Raises StartError when the database cannot be used.
    """

    async def run() -> T:
        engine = make_engine(asyncpg_url(SecretStr(_database_url(service))), pool_size=1)
        try:
            async with Transactions(engine, f"carnet/{service}", {}).system() as session:
                return await work(session)
        finally:
            await engine.dispose()

    try:
        return asyncio.run(run())
    except (OSError, TimeoutError, SQLAlchemyError) as error:
        raise StartError(
            f"The database of {service} failed: {str(error).splitlines()[0]}",
            "Nothing was changed; check that the system runs, and repeat the command.",
        ) from error


def _database_url(service: str) -> str:
    """Return the database's address: from the environment, or that of the running stack."""
    variable = f"{service.upper()}_DATABASE_URL"
    if url := os.environ.get(variable):
        return url
    description = get_description(
        StackSettings.from_environment(),
        otherwise=f"Start one with `make run`, or set {variable}.",
    )
    return description["service_database_urls"][service]


def _line(row: Mapping[str, Any]) -> str:
    created = f"{row['created_at']:%Y-%m-%d %H:%M}"
    return (
        f"{row['id']:>8}  {created}  {row['template']:<24} {row['recipient'] or 'erased':<32}"
        f" {row['attempts']} attempts  {_one_line(row['error'])}"
    )


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())


def _shown(value: Any) -> str:
    return "" if value is None else _one_line(str(value))
