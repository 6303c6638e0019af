"""Run the mailbox of a local stack: it delivers nothing.

    python -m deploy.local.mailbox --smtp-port 8425 --port 8426 --state FILE

Both ports are those of 127.0.0.1.
"""

import argparse
import asyncio

import uvicorn

from deploy.local.mailbox.app import create_app
from deploy.local.mailbox.smtp_server import serve_smtp
from deploy.local.mailbox.store import MessageStore

HOST = "127.0.0.1"


async def _run(arguments: argparse.Namespace) -> None:
    store = MessageStore(arguments.state)
    smtp_server = await serve_smtp(store, HOST, arguments.smtp_port)
    config = uvicorn.Config(
        create_app(store), host=HOST, port=arguments.port, access_log=False, log_level="warning"
    )
    try:
        await uvicorn.Server(config).serve()
    finally:
        smtp_server.close()
        store.close()


def main() -> None:
    """Run until SIGTERM."""
    parser = argparse.ArgumentParser(description="Run a local SMTP server with a mailbox page.")
    parser.add_argument("--smtp-port", type=int, required=True)
    parser.add_argument("--port", type=int, required=True, help="the page's")
    parser.add_argument("--state", default=":memory:", help="a SQLite file (default: none)")
    asyncio.run(_run(parser.parse_args()))


if __name__ == "__main__":
    main()
