"""The paths that the gateway answers itself."""

import json

from gateway.client.http_exchange import HttpExchange
from gateway.documents.account_pages import PAGES, account_files
from gateway.documents.swagger_ui import PAGE_POLICY, static_files
from gateway.documents.upstream_documents import NOT_READY, CachedBytes
from gateway.errors import UnknownMethod

_JSON = b"application/json"
_CHANGING = {b"/docs", *PAGES}
_DAY = {"Cache-Control": "public, max-age=86400"}


class GatewayEndpoints:
    """Health, readiness, the merged OpenAPI document with its page, and the pages of accounts."""

    def __init__(self, *, document: CachedBytes, readiness: CachedBytes) -> None:
        self._document = document
        self._readiness = readiness
        self._files = static_files() | account_files()
        self._paths = {b"/health", b"/health/ready", b"/openapi.json"} | self._files.keys()

    async def handle(self, exchange: HttpExchange, raw_path: bytes) -> bool:
        """Answer the request and return True if the path is one of these.

        Raises UnknownMethod (405) unless the method is GET or HEAD.
        """
        if raw_path not in self._paths:
            return False
        exchange.template = raw_path.decode("ascii")
        if exchange.scope["method"] not in ("GET", "HEAD"):
            raise UnknownMethod(headers={"Allow": "GET, HEAD"})
        if raw_path in self._files:
            media_type, content = self._files[raw_path]
            headers = None if raw_path in _CHANGING else _DAY
            await exchange.respond(200, media_type, content, headers, policy=PAGE_POLICY)
        elif raw_path == b"/openapi.json":
            await exchange.respond(200, _JSON, await self._document.get())
        elif raw_path == b"/health/ready":
            body = await self._readiness.get()
            not_ready = json.loads(body)["status"] == NOT_READY
            await exchange.respond(503 if not_ready else 200, _JSON, body)
        else:
            await exchange.respond(200, _JSON, b'{"status":"alive"}')
        return True
