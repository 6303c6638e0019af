"""The command behind `make demo`."""

import asyncio
from typing import Any

import httpx
import typer

from deploy.demo.client import ANSWERS_WITHIN, CardGateway, Person, UnexpectedAnswer
from deploy.demo.page import Page
from deploy.demo.story import Story
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
        StackSettings.from_environment().data,
        otherwise="Start one with `make run`, in another terminal.",
    )
    page = Page()
    try:
        asyncio.run(tell(described, page))
    except (UnexpectedAnswer, TimeoutError, httpx.HTTPError) as error:
        page.failed(str(error) or type(error).__name__)
        raise typer.Exit(1) from error
    page.console.print("\n[bold]Everything as it should be.[/bold]")


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
