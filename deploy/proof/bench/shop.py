"""A running program that sells vouchers: Carnet, or the one-process program it is compared with."""

import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.proof.bench.buyers import TOKEN_VARIABLE, LoadResult
from deploy.proof.bench.cores import cpu_seconds
from deploy.proof.bench.environment import BenchEnvironment


@dataclass(frozen=True)
class Shop(ABC):
    """A shop's address and what it sells, and the superuser's URL and the log of its PostgreSQL."""

    environment: BenchEnvironment
    address: str
    voucher_type_id: int
    database_url: str
    database_log: Path

    @abstractmethod
    async def token(self) -> str:
        """Return a token of a client that is valid for the duration of some load."""

    @abstractmethod
    def pids(self) -> Mapping[str, int]:
        """Return the process ids of everything that serves a purchase, by name."""

    @abstractmethod
    async def wait_until_drained(self) -> None:
        """Wait until all work that purchases have caused is finished."""

    @abstractmethod
    async def messages(self) -> Mapping[str, float]:
        """Return how many messages were published and delivered so far."""

    def cpu(self) -> dict[str, float]:
        """Return the CPU seconds used so far by each process."""
        return {name: cpu_seconds([pid]) for name, pid in self.pids().items()}

    async def load(self, seconds: float, *, buyers: int) -> LoadResult:
        """Let each of the buyers buy repeatedly for some seconds."""
        return await self._load(seconds=seconds, buyers=buyers)

    async def load_at_rate(self, per_second: float, seconds: float) -> LoadResult:
        """Begin purchases at a fixed rate, even while earlier ones are not finished."""
        return await self._load(seconds=seconds, per_second=per_second)

    async def _load(self, **arguments: float) -> LoadResult:
        shop = {"address": self.address, "voucher_type_id": self.voucher_type_id}
        command = (sys.executable, "-m", "deploy.proof.bench.buyers")
        output = await self.environment.output(
            (*command, json.dumps({**shop, **arguments})),
            name="buyers",
            variables={TOKEN_VARIABLE: await self.token()},
        )
        return LoadResult(**json.loads(output))
