"""The command behind `make demo`."""

import asyncio
import os
from typing import Any

import httpx
import typer

from deploy.api_client import ANSWERS_WITHIN, CardGateway, Person, UnexpectedAnswer
from deploy.demo.page import Page
from deploy.demo.story import Story
from deploy.local.errors import StartError
from deploy.local.settings import StackSettings
from deploy.local.stack import description_of

AGENT = "carnet-demo/2.0"

app = typer.Typer()


@app.command()
def demo() -> None:
    """Drive the main story through a running system and check every answer.

    Exits with 1 when a step is not as it should be.
    """
    described = description_of(
        StackSettings.from_environment(),
        otherwise="Start one with `make run`, in another terminal; set CARNET_DATA if it has "
        "another data folder.",
    )
    _take_password(described["admin"])
    page = Page()
    try:
        asyncio.run(tell(described, page))
    except (UnexpectedAnswer, TimeoutError, httpx.HTTPError) as error:
        page.failed(str(error) or type(error).__name__)
        raise typer.Exit(1) from error
    page.console.print("\n[bold]Everything as it should be.[/bold]")


def _take_password(admin: dict[str, Any]) -> None:
    """Use CARNET_ADMIN_PASSWORD where the system does not know the administrator's password."""
    admin["password"] = admin["password"] or os.environ.get("CARNET_ADMIN_PASSWORD")
    if not admin["password"]:
        raise StartError(
            f"The password of {admin['email']} is not known here.",
            "Set it: CARNET_ADMIN_PASSWORD=… make demo",
        )


async def tell(described: dict[str, Any], page: Page) -> Story:
    """Tell the story to a stack and return it; raises UnexpectedAnswer, TimeoutError, HTTPError."""
    stripe = described["stripe"]
    async with (
        httpx.AsyncClient(
            base_url=described["address"], timeout=ANSWERS_WITHIN, headers={"User-Agent": AGENT}
        ) as api,
        httpx.AsyncClient(
            base_url=stripe["api_base"], timeout=ANSWERS_WITHIN, auth=(stripe["api_key"], "")
        ) as cards,
    ):
        admin = Person(api, "Admin", described["admin"]["email"], described["admin"]["password"])
        story = Story(api, CardGateway(cards), admin, page)
        await story.tell()
        return story
