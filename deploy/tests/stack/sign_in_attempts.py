"""Sign-ins over a plain socket: cheap enough to be many, and from any address of this machine."""

import asyncio
import json
import time
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended, and after how many seconds."""

    status: int
    seconds: float


@dataclass(frozen=True)
class Attempts:
    """Makes attempts at a gateway; each `source` is a loopback address of the caller's own."""

    address: str

    async def sign_in(self, source: str, email: str, password: str) -> Outcome:
        """Try to sign in from an address."""
        body = json.dumps({"email": email, "password": password}).encode()
        head = (
            "POST /api/auth/login HTTP/1.1\r\nHost: carnet\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        return await self._ask(source, head.encode() + body)

    async def health(self, source: str) -> Outcome:
        """Ask whether the gateway lives."""
        request = b"GET /health HTTP/1.1\r\nHost: carnet\r\nConnection: close\r\n\r\n"
        return await self._ask(source, request)

    async def _ask(self, source: str, request: bytes) -> Outcome:
        parts = urlsplit(self.address)
        began = time.perf_counter()
        reader, writer = await asyncio.open_connection(
            parts.hostname, parts.port, local_addr=(source, 0)
        )
        try:
            writer.write(request)
            status = int((await reader.readline()).split()[1])
            await reader.read()
        finally:
            writer.close()
        return Outcome(status, time.perf_counter() - began)
