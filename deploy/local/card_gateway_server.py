"""The card gateway of a local stack: localstripe, listening only on 127.0.0.1.

localstripe alone listens on every address, stores the state of all its processes in one file in
/tmp, and writes that file at each change. This program stores the state in the file `--state`.

    python -m deploy.local.card_gateway_server --port 8420 --state FILE --webhook-url URL

The secret of the webhook is in the environment variable CARD_GATEWAY_WEBHOOK_SECRET.
"""

import argparse
import asyncio
import contextlib
import logging
import os
import pickle
import time
from collections.abc import AsyncIterator
from pathlib import Path

from aiohttp import web
from localstripe import resources, server, webhooks

from deploy.local.card_gateway import EVENTS, SECRET_VARIABLE

# A large state takes long to write: at most this share of the time is spent on it.
_SHARE_OF_TIME = 0.1


class StateFile:
    """localstripe's state in a file, which is replaced soon after each change."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._dirty = False
        self._not_before = 0.0

    def load(self) -> None:
        """Fill localstripe's store from the file, if there is one."""
        with contextlib.suppress(FileNotFoundError):
            state = pickle.loads(self._file.read_bytes())  # noqa: S301 - our own file
            resources.store.update(state)

    def changed(self, *_: object) -> None:
        """Record that the state has changed; localstripe calls this."""
        self._dirty = True

    def write(self) -> None:
        """Write the state now if it has changed."""
        if not self._dirty:
            return
        self._dirty = False
        began = time.monotonic()
        beside = self._file.with_suffix(".new")
        beside.write_bytes(pickle.dumps(resources.store, protocol=pickle.HIGHEST_PROTOCOL))
        beside.replace(self._file)
        ended = time.monotonic()
        self._not_before = ended + (ended - began) / _SHARE_OF_TIME

    async def write_changes(self, _: web.Application) -> AsyncIterator[None]:
        """Write changes while the application runs, and at its end."""

        async def write_regularly() -> None:
            while True:
                if time.monotonic() >= self._not_before:
                    self.write()
                await asyncio.sleep(0.02)

        writer = asyncio.create_task(write_regularly())
        yield
        writer.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await writer
        self.write()


def main() -> None:
    """Run until SIGTERM."""
    parser = argparse.ArgumentParser(description="Run localstripe for one data folder.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--webhook-url", required=True)
    arguments = parser.parse_args()
    state = StateFile(arguments.state)
    resources.Store.dump_to_disk = state.changed
    state.load()
    secret = os.environ[SECRET_VARIABLE]
    webhooks.register_webhook("carnet", arguments.webhook_url, secret, EVENTS)
    server.app.cleanup_ctx.append(state.write_changes)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    web.run_app(server.app, host="127.0.0.1", port=arguments.port, print=None)


if __name__ == "__main__":
    main()
