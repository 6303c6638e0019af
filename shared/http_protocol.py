"""uvicorn's HTTP/1.1 protocol, with the end of each message as RFC 9112 defines it.

llhttp stops reading HTTP after a head with `Connection: Upgrade`, and httptools then skips the
message's body, so the body would be parsed as the next request. Our servers support no other
protocol, so `Upgrade` is ignored (RFC 9110 7.8).
"""

import structlog
from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

log = structlog.get_logger(__name__)


class HttpProtocol(HttpToolsProtocol):
    """One connection of a client."""

    def data_received(self, data: bytes) -> None:
        """Parse the bytes. If they are not HTTP, respond with 400 and close the connection."""
        self._unset_keepalive_if_required()
        rest: bytes | memoryview = data
        try:
            while True:
                try:
                    self.parser.feed_data(rest)
                    break
                except HttpParserUpgrade as upgrade:
                    end_of_head: int = upgrade.args[0]
                    self._parse_head_without_upgrade()
                    rest = memoryview(rest)[end_of_head:]
        except HttpParserError as error:
            log.info("request_malformed", cause=str(error))
            self.send_400_response("Invalid HTTP request received.")

    def on_headers_complete(self) -> None:
        """Start the request, unless its head will be parsed again without `Upgrade`."""
        if self.parser.should_upgrade():
            return
        super().on_headers_complete()
        # The fields of a trailer section arrive by the same callback as those of the head, and
        # must not be merged with them (RFC 9110 6.5.1): they go into a list that is not used.
        self.headers = []

    def on_message_complete(self) -> None:
        """End the body, unless the message's head will be parsed again."""
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def _parse_head_without_upgrade(self) -> None:
        """Parse the present head again with a new parser, without `Upgrade`. The body follows.

        Raises HttpParserError for CONNECT, whose head does not define the end of its body.
        """
        method = self.parser.get_method()
        if method == b"CONNECT":
            raise HttpParserError("CONNECT is not offered")
        version = self.parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (method, self.url, version)]
        lines += [b"%b: %b" % field for field in self.headers if field[0] != b"upgrade"]
        self.parser = HttpRequestParser(self)
        # As uvicorn sets it: what follows a request with `Connection: close` is skipped.
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.parser.feed_data(b"\r\n".join(lines) + b"\r\n\r\n")

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGIApp) -> None:  # type: ignore[override]
        if cycle.waiting_for_100_continue:
            app = close_if_not_continued(app, cycle)
        super()._start_asgi_task(cycle, app)  # type: ignore[arg-type]


def close_if_not_continued(app: ASGIApp, cycle: RequestResponseCycle) -> ASGIApp:
    """Return an application that closes the connection if it responds before `100 Continue`.

    The client may still send the announced body or omit it (RFC 9110 10.1.1), so the next bytes may
    be this body or another request.
    """

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_and_close(message: Message) -> None:
            if cycle.waiting_for_100_continue:
                cycle.keep_alive = False
            await send(message)

        await app(scope, receive, send_and_close)

    return application
