"""Buyers in a process of their own, so that their CPU time is known.

    python -m deploy.proof.bench.buyers ARGUMENTS

The arguments are those of `buy_repeatedly` or of `buy_at_rate`, as JSON. The token of a client is
in the environment variable BUYERS_TOKEN. The program prints its result as JSON.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from uuid import uuid4

import aiohttp
import uvloop

from deploy.local.errors import StartError

PATIENCE_SECONDS = 30
TOKEN_VARIABLE = "BUYERS_TOKEN"  # noqa: S105 - a name


@dataclass
class LoadResult:
    """The result of some load: the seconds of each purchase, and the number of failures.

    `cpu_seconds` is the buyers' own CPU time.
    """

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    refused: int = 0

    @property
    def per_second(self) -> float:
        """Purchases per second."""
        return len(self.latencies) / self.seconds

    def latency_ms(self, part: float) -> float:
        """Return the milliseconds below which a part (0 to 1) of the purchases took."""
        return percentile(self.latencies, part) * 1e3

    def require_success(self) -> None:
        """Raise StartError if a purchase failed, or if there was none."""
        if self.refused or not self.latencies:
            raise StartError(
                f"{self.refused} of {self.refused + len(self.latencies)} purchases failed.",
                "Read the logs in .carnet/bench.",
            )


class Buyers:
    """A client's buyers, who share a token and a pool of connections."""

    def __init__(self, session: aiohttp.ClientSession, voucher_type_id: int) -> None:
        self.result = LoadResult()
        self._session = session
        self._body = {
            "voucher_type_id": voucher_type_id,
            "payment_method": "credit_card",
            "payment_token": "pm_card_visa",
        }

    async def buy_repeatedly(self, seconds: float, buyers: int) -> None:
        """Let each of the buyers buy one voucher after another for some seconds."""
        began = time.perf_counter()

        async def buy_in_time() -> None:
            while time.perf_counter() < began + seconds:
                await self._buy()

        await asyncio.gather(*(buy_in_time() for _ in range(buyers)))
        self.result.seconds = time.perf_counter() - began

    async def buy_at_rate(self, seconds: float, per_second: float) -> None:
        """Begin purchases at a fixed rate, even while earlier ones are not finished."""
        async with asyncio.TaskGroup() as group:
            began = time.perf_counter()
            for number in range(max(1, int(per_second * seconds))):
                await asyncio.sleep(began + number / per_second - time.perf_counter())
                group.create_task(self._buy())
            self.result.seconds = time.perf_counter() - began

    async def _buy(self) -> None:
        began = time.perf_counter()
        headers = {"Idempotency-Key": str(uuid4())}
        async with self._session.post(
            "/api/vouchers/purchase", json=self._body, headers=headers
        ) as answer:
            voucher = await answer.json()
        if answer.status == 201 and voucher["status"] == "active":
            self.result.latencies.append(time.perf_counter() - began)
        else:
            self.result.refused += 1


async def run(
    *,
    address: str,
    voucher_type_id: int,
    seconds: float,
    buyers: int | None = None,
    per_second: float | None = None,
) -> LoadResult:
    """Buy repeatedly with some buyers, or at a rate; return the result."""
    async with aiohttp.ClientSession(
        base_url=address,
        headers={"Authorization": f"Bearer {os.environ[TOKEN_VARIABLE]}"},
        timeout=aiohttp.ClientTimeout(total=PATIENCE_SECONDS),
        connector=aiohttp.TCPConnector(limit=0),
    ) as session:
        group = Buyers(session, voucher_type_id)
        cpu_before = time.process_time()
        if per_second is None:
            await group.buy_repeatedly(seconds, buyers or 1)
        else:
            await group.buy_at_rate(seconds, per_second)
        group.result.cpu_seconds = time.process_time() - cpu_before
        return group.result


def percentile(values: Sequence[float], part: float) -> float:
    """Return the value below which a part (0 to 1) of the values lies."""
    return sorted(values)[min(len(values) - 1, int(part * len(values)))]


def main() -> None:
    """Run the load that the command line describes."""
    print(json.dumps(asdict(uvloop.run(run(**json.loads(sys.argv[1]))))))


if __name__ == "__main__":
    main()
