"""Signed calls to other services, bounded in time. They are never made inside a transaction."""

from collections.abc import Mapping
from typing import Any

import httpx

from shared.context import CLIENT_ADDRESS_HEADER, REQUEST_ID_HEADER, Origin
from shared.errors import ServiceUnavailable
from shared.money import dump_exactly
from shared.tokens import ServiceSigner
from shared.transport import PooledTransport


class _Instances:
    """The addresses of one service, which are used in turn."""

    def __init__(self, addresses: str, transport: httpx.AsyncBaseTransport) -> None:
        self._addresses = tuple(filter(None, (each.strip(" /") for each in addresses.split(","))))
        if not self._addresses:
            raise ValueError("a service needs at least one address")
        self._transport = transport
        self._turn = 0

    async def send(self, method: str, path: str, **parts: Any) -> httpx.Response:
        """Send a request to the next instance, or to the one after it if that cannot be connected.

        A request that may have reached an instance is not sent to another. Raises httpx.HTTPError.
        """
        refusal: httpx.HTTPError | None = None
        start = self._turn
        self._turn = (start + 1) % len(self._addresses)
        for address in (*self._addresses[start:], *self._addresses[:start]):
            try:
                request = httpx.Request(method, address + path, **parts)
                answer = await self._transport.handle_async_request(request)
                await answer.aread()
            except httpx.ConnectError as error:
                refusal = error
            else:
                return answer
        raise refusal or httpx.ConnectError("no address")

    async def aclose(self) -> None:
        await self._transport.aclose()


class ServiceClients:
    """The connections to the services that this one may call.

    `addresses` are comma-separated addresses by service name. `timeout` is for a whole call, in
    seconds. `transports` replaces the network in tests, by service name.
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
        self._services = {
            name: _Instances(urls, (transports or {}).get(name) or PooledTransport())
            for name, urls in addresses.items()
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
        """Call another service on behalf of an origin. Responses with a status of 4xx are returned.

        Raises ServiceUnavailable when the service is down, too slow, or responds with 5xx.
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
            raise ServiceUnavailable(
                f"The service {service} does not respond. Try again in a few seconds."
            ) from error
        if answer.status_code >= 500:
            detail = f"The service {service} failed. Try again in a few seconds."
            raise ServiceUnavailable(detail)
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
