"""Starts the card gateway that costs almost nothing."""

import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from deploy.local.card_gateway.program import SECRET_VARIABLE
from deploy.local.settings import LOCAL_STRIPE_KEY, StripeSettings
from deploy.proof.bench.environment import BenchEnvironment


@dataclass(frozen=True)
class CardDouble:
    """The running double: its address, its process, and the secret of its webhooks."""

    url: str
    pid: int
    webhook_secret: str

    @property
    def stripe_settings(self) -> StripeSettings:
        """The settings of a stack that uses it."""
        return StripeSettings(self.url, LOCAL_STRIPE_KEY, self.webhook_secret)


@asynccontextmanager
async def running_card_double(
    environment: BenchEnvironment, webhook_url: str | None = None
) -> AsyncIterator[CardDouble]:
    """Run the double of `card_double.py`; without a URL it sends no webhooks."""
    port = environment.ports.choose("card-double")
    url, secret = f"http://127.0.0.1:{port}", f"whsec_{secrets.token_hex(24)}"
    command = (sys.executable, "-m", "deploy.proof.bench.card_double", "--port", str(port))
    async with environment.process(
        "card-double",
        (*command, "--webhook-url", webhook_url) if webhook_url else command,
        {SECRET_VARIABLE: secret},
        tested=False,
        ready=f"{url}/v1/payment_intents",
    ) as process:
        yield CardDouble(url, process.pid, secret)
