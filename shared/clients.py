"""Calls to other services: few, named, signed, bounded in time, never inside a transaction."""

from collections.abc import Mapping
from typing import Any

import httpx

from shared.auth import ServiceSigner
from shared.context import CLIENT_ADDRESS_HEADER, REQUEST_ID_HEADER, Origin
from shared.errors import ServiceUnavailable
from shared.money import dump_exactly

Answer = httpx.Response


class ServiceClients:
    """One HTTP client for each service that this one may call.

    `transports` replaces the network in tests: name → httpx transport.
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
        self._clients = {
            name: httpx.AsyncClient(
                base_url=address,
                timeout=httpx.Timeout(timeout, connect=2),
                transport=(transports or {}).get(name),
            )
            for name, address in addresses.items()
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
            answer = await self._clients[service].request(
                method,
                path,
                content=dump_exactly(json) if json is not None else None,
                params=params,
                headers=self._headers(service, origin),
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
        for client in self._clients.values():
            await client.aclose()
