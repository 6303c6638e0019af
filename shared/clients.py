"""Calls to other services: few, named, signed, bounded in time, never inside a transaction."""

from collections.abc import Iterator, Mapping
from typing import Any

import httpx

from shared.context import CLIENT_ADDRESS_HEADER, REQUEST_ID_HEADER, Origin
from shared.errors import ServiceUnavailable
from shared.money import dump_exactly
from shared.tokens import ServiceSigner
from shared.transport import PooledTransport

Answer = httpx.Response


class _Instances:
    """The addresses of one service, used in turn."""

    def __init__(self, addresses: str, transport: httpx.AsyncBaseTransport) -> None:
        self._addresses = tuple(filter(None, (each.strip(" /") for each in addresses.split(","))))
        if not self._addresses:
            raise ValueError("a service needs at least one address")
        self._transport = transport
        self._turn = 0

    async def send(self, method: str, path: str, **parts: Any) -> httpx.Response:
        """Ask the instance whose turn it is, or the next one when it takes no connection.

        Never asks a second one what may have reached the first. Raises httpx.HTTPError.
        """
        refusal: httpx.HTTPError | None = None
        for address in self._in_turn():
            try:
                request = httpx.Request(method, address + path, **parts)
                answer = await self._transport.handle_async_request(request)
                await answer.aread()
            except httpx.ConnectError as error:
                refusal = error
            else:
                return answer
        raise refusal or httpx.ConnectError("no address")

    def _in_turn(self) -> Iterator[str]:
        start = self._turn
        self._turn = (start + 1) % len(self._addresses)
        yield from self._addresses[start:]
        yield from self._addresses[:start]

    async def aclose(self) -> None:
        await self._transport.aclose()


class ServiceClients:
    """The way to each service that this one may call: name → its addresses, comma-separated.

    `timeout` is for a whole call, in seconds. `transports` replaces the network in tests: name →
    httpx transport.
    """

    def __init__(
        self,
        signer: ServiceSigner,
        addresses: Mapping[str, str],
        *,
        timeout: float = 10.0,
        transports: Mapping[str, httpx.AsyncBaseTransport] | None = None,
    ) -> None:
        self._signer = signer
        self._extensions = {"timeout": httpx.Timeout(timeout).as_dict()}
        replaced = transports or {}
        self._services = {
            name: _Instances(listed, replaced.get(name) or PooledTransport())
            for name, listed in addresses.items()
        }

    async def request(
        self,
        service: str,
        method: str,
        path: str,
        origin: Origin,
        *,
        json: Mapping[str, Any] | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> httpx.Response:
        """Call another service on behalf of an origin; 4xx answers are returned to the caller.

        Raises ServiceUnavailable when it is down, too slow, or answers 5xx.
        """
        try:
            answer = await self._services[service].send(
                method,
                path,
                content=dump_exactly(json) if json is not None else None,
                params=params,
                headers=self._headers(service, origin),
                extensions=self._extensions,
            )
        except httpx.HTTPError as error:
            raise ServiceUnavailable(f"The {service} service does not answer.") from error
        if answer.status_code >= 500:
            raise ServiceUnavailable(f"The {service} service could not answer.")
        return answer

    def _headers(self, service: str, origin: Origin) -> dict[str, str]:
        token = self._signer.token_for(service, origin.user_id, origin.role)
        headers = {
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/json",
            REQUEST_ID_HEADER: origin.correlation_id,
        }
        if origin.ip_address:
            headers[CLIENT_ADDRESS_HEADER] = origin.ip_address
        if origin.user_agent:
            headers["User-Agent"] = origin.user_agent
        return headers

    async def aclose(self) -> None:
        """Close every connection."""
        for service in self._services.values():
            await service.aclose()
