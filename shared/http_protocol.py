"""uvicorn's HTTP/1.1 protocol with the end of each message where RFC 9112 puts it.

llhttp stops reading HTTP after a head with `Connection: Upgrade`, and httptools then skips the
message's body: what follows the head would be parsed as the next request, although it is the body
of this one. No server of ours speaks another protocol, so `Upgrade` is ignored (RFC 9110 7.8).
"""

import structlog
from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

log = structlog.get_logger(__name__)


class HttpProtocol(HttpToolsProtocol):
    """One connection of a client to a server of ours."""

    def data_received(self, data: bytes) -> None:
        """Parse what arrived. What is not HTTP is answered with 400, and ends the connection."""
        self._unset_keepalive_if_required()
        try:
            self._parse(data)
        except HttpParserError as error:
            log.info("request_malformed", cause=str(error))
            self.send_400_response("Invalid HTTP request received.")

    def on_headers_complete(self) -> None:
        """Start the request, unless its head is about to be parsed again without `Upgrade`."""
        if self.parser.should_upgrade():
            return
        super().on_headers_complete()
        # The fields of a trailer section arrive by the same callback as those of the head, and
        # must not be merged with them (RFC 9110 6.5.1): they go into a list that is not used.
        self.headers = []

    def on_message_complete(self) -> None:
        """End the body, unless the message's head is about to be parsed again."""
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def _parse(self, data: bytes | memoryview) -> None:
        while True:
            try:
                self.parser.feed_data(data)
            except HttpParserUpgrade as upgrade:
                end_of_head: int = upgrade.args[0]
                self._parse_head_without_upgrade()
                data = memoryview(data)[end_of_head:]
            else:
                return

    def _parse_head_without_upgrade(self) -> None:
        """Let a new parser read the present head without `Upgrade`; the body is still to come.

        Raises HttpParserError for CONNECT, whose head says nothing about where its body ends.
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
            app = _closing_when_not_continued(app, cycle)
        super()._start_asgi_task(cycle, app)  # type: ignore[arg-type]


def _closing_when_not_continued(app: ASGIApp, cycle: RequestResponseCycle) -> ASGIApp:
    """End the connection with an answer that is sent before `100 Continue` is.

    Whether the client still sends the body that it announced is its choice (RFC 9110 10.1.1), so
    the next bytes may be this body or another request.
    """

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_and_close(message: Message) -> None:
            if cycle.waiting_for_100_continue:
                cycle.keep_alive = False
            await send(message)

        await app(scope, receive, send_and_close)

    return application
