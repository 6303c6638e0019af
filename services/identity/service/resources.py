"""What a process of this service holds for its use cases, beside the database."""

import asyncio
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass

from services.identity.security.device_cookies import DeviceCookies
from services.identity.security.key_encryption import KeyEncryption
from services.identity.security.passwords import Passwords
from services.identity.security.tokens import TokenIssuer
from services.identity.service.keyring import Keyring
from services.identity.service.refresh_answers import RefreshAnswers
from services.identity.service.refusal_delay import RefusalDelay
from services.identity.service.sign_in_limiter import SignInLimiter
from services.identity.settings import Settings
from shared.clients import ServiceClients
from shared.transactions import Transactions


@dataclass(frozen=True, slots=True)
class Resources:
    """Made once when the application is composed."""

    settings: Settings
    clients: ServiceClients
    keyring: Keyring
    issuer: TokenIssuer
    passwords: Passwords
    devices: DeviceCookies
    answers: RefreshAnswers
    sign_in_limiter: SignInLimiter
    refusal_delay: RefusalDelay
    strangers: asyncio.Semaphore
    """How many strangers' sign-ins may be at the database at once, to find their accounts."""

    @classmethod
    def of(
        cls, settings: Settings, transactions: Transactions, clients: ServiceClients
    ) -> "Resources":
        """Build what the settings describe."""
        key_encryption = KeyEncryption(settings.signing_secret)
        keyring = Keyring(transactions, key_encryption)
        return cls(
            settings=settings,
            clients=clients,
            keyring=keyring,
            issuer=TokenIssuer(keyring, settings.token_issuer, settings.token_audience),
            passwords=Passwords(settings.password_queue),
            devices=DeviceCookies(key_encryption),
            answers=RefreshAnswers(key_encryption),
            sign_in_limiter=SignInLimiter(),
            refusal_delay=RefusalDelay(settings.failed_sign_in_seconds),
            strangers=asyncio.Semaphore(max(1, settings.database_pool_size // 2)),
        )

    def connections(self, *, for_stranger: bool) -> AbstractAsyncContextManager[None]:
        """Return the turn to wait for before the database is asked; nobody known waits."""
        return self.strangers if for_stranger else nullcontext()
