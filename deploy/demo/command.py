"""The command behind `make demo`."""

import asyncio
import os

import httpx
import typer

from deploy.api_client import ANSWERS_WITHIN, CardGateway, Mailbox, Person, UnexpectedAnswer
from deploy.demo.bookings import Bookings
from deploy.demo.page import Page
from deploy.demo.story import Story
from deploy.local.description import StackDescription, get_description
from deploy.local.errors import StartError
from deploy.local.settings import StackSettings

AGENT = "carnet-demo/2.0"

app = typer.Typer()


@app.command()
def demo() -> None:
    """Run the main story through a running system and check every answer.

    Exits with 1 when a step does not end as expected.
    """
    description = get_description(
        StackSettings.from_environment(),
        otherwise="Start one with `make run`, in another terminal; set CARNET_DATA if it has "
        "another data folder.",
    )
    admin = description["admin"]
    # The description has no password if it was changed.
    admin["password"] = admin["password"] or os.environ.get("CARNET_ADMIN_PASSWORD")
    if not admin["password"]:
        raise StartError(
            f"The password of {admin['email']} is not known here.",
            "Set it: CARNET_ADMIN_PASSWORD=… make demo",
        )
    if description["mailbox"] is None:
        raise StartError(
            "The messages of this system leave by a server of yours, but the story reads them.",
            "Start the system without CARNET_SMTP_URL.",
        )
    page = Page()
    try:
        asyncio.run(run(description, page))
    except (UnexpectedAnswer, TimeoutError, httpx.HTTPError) as error:
        page.failed(str(error) or type(error).__name__)
        raise typer.Exit(1) from error
    page.console.print("\n[bold]Every step was as expected.[/bold]")


async def run(description: StackDescription, page: Page) -> Story:
    """Run the story in a stack and return it.

    Raises UnexpectedAnswer, TimeoutError, HTTPError.
    """
    stripe = description["stripe"]
    async with (
        httpx.AsyncClient(
            base_url=description["address"], timeout=ANSWERS_WITHIN, headers={"User-Agent": AGENT}
        ) as api,
        httpx.AsyncClient(
            base_url=stripe["api_base"], timeout=ANSWERS_WITHIN, auth=(stripe["api_key"], "")
        ) as cards,
    ):
        account = description["admin"]
        admin = Person(api, "Admin", account["email"], account["password"] or "")
        mailbox = Mailbox(description["mailbox"] or "")
        story = Story(api, CardGateway(cards), mailbox, admin, page)
        await story.run()
        await Bookings(story).run()
        return story
