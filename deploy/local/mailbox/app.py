"""The mailbox page, and the same as JSON for scripts.

A message's HTML is shown in a sandboxed frame: it runs no script and cannot reach the page. Only
requests to this machine's own names are answered, so that no other site can read the messages by
pointing its name to this address.
"""

from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from jinja2 import Environment, FileSystemLoader
from starlette.middleware.trustedhost import TrustedHostMiddleware

from deploy.local.mailbox.messages import ParsedMessage
from deploy.local.mailbox.store import MessageStore

PAGE_SIZE = 100
_FRAME_POLICY = (
    "sandbox allow-popups allow-popups-to-escape-sandbox; default-src 'none';"
    " style-src 'unsafe-inline'; img-src https: data:"
)
_PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-src 'self'; form-action 'self'"
_LINKS_OPEN_TABS = '<base target="_blank">'

Limit = Annotated[int, Query(ge=1, le=1000)]


def create_app(store: MessageStore) -> FastAPI:
    """Return the application."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost", "[::1]"])
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True
    )

    def page(name: str, **values: Any) -> HTMLResponse:
        text = templates.get_template(name).render(values)
        return HTMLResponse(text, headers={"Content-Security-Policy": _PAGE_POLICY})

    def message_of(message_id: int) -> ParsedMessage:
        stored = store.find(message_id)
        if stored is None:
            raise HTTPException(404, "There is no such message.")
        return ParsedMessage(stored)

    @app.get("/")
    async def list_page(to: str | None = None) -> HTMLResponse:
        messages = [ParsedMessage(m) for m in store.list_messages(to or None, PAGE_SIZE)]
        return page("list.html", messages=messages, to=to or "")

    @app.get("/messages.json")
    async def messages_json(to: str | None = None, limit: Limit = PAGE_SIZE) -> JSONResponse:
        messages = store.list_messages(to or None, limit)
        return JSONResponse({"messages": [ParsedMessage(m).as_json() for m in messages]})

    @app.get("/messages/{message_id}")
    async def message_page(request: Request, message_id: int, view: str = "html") -> HTMLResponse:
        message = message_of(message_id)
        shown_view = view if view in ("html", "text", "source") else "html"
        return page("message.html", message=message, view=shown_view, request=request)

    @app.get("/messages/{message_id}/html")
    async def html_part(message_id: int) -> HTMLResponse:
        headers = {"Content-Security-Policy": _FRAME_POLICY}
        return HTMLResponse(_LINKS_OPEN_TABS + message_of(message_id).html, headers=headers)

    @app.get("/messages/{message_id}/attachments/{number}")
    async def attachment(message_id: int, number: int) -> Response:
        parts = message_of(message_id).attachments()
        if not 0 <= number < len(parts):
            raise HTTPException(404, "There is no such attachment.")
        headers = {
            "Content-Disposition": "attachment",
            "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": "sandbox",
        }
        part = parts[number]
        return Response(part.content, media_type=part.content_type, headers=headers)

    return app
