"""The objects of a process that use cases need, beside the database."""

import asyncio
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass

from services.identity.security.device_cookies import DeviceCookies
from services.identity.security.key_encryption import KeyEncryption
from services.identity.security.passwords import Passwords
from services.identity.security.second_factors import FactorSecrets
from services.identity.service.keyring import Keyring, TokenIssuer
from services.identity.service.refresh_answers import RefreshAnswers
from services.identity.service.refusal_delay import RefusalDelay
from services.identity.service.sign_in_limiter import SignInLimiter
from services.identity.settings import Settings
from shared.clients import ServiceClients
from shared.transactions import Transactions


@dataclass(frozen=True, slots=True)
class Resources:
    """Created once, with the application."""

    settings: Settings
    clients: ServiceClients
    keyring: Keyring
    issuer: TokenIssuer
    passwords: Passwords
    devices: DeviceCookies
    answers: RefreshAnswers
    factor_secrets: FactorSecrets
    sign_in_limiter: SignInLimiter
    refusal_delay: RefusalDelay
    link_delay: RefusalDelay
    """Delays the answer to a request for a link: it must not reveal whether there is an account."""
    registration_delay: RefusalDelay
    """The same for registrations, which take longer."""
    unknown_clients: asyncio.Semaphore
    """How many sign-ins of unknown clients may use the database at once, to find the account."""

    @classmethod
    def of(
        cls, settings: Settings, transactions: Transactions, clients: ServiceClients
    ) -> "Resources":
        """Return the resources that the settings describe."""
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
            factor_secrets=FactorSecrets(key_encryption),
            sign_in_limiter=SignInLimiter(),
            refusal_delay=RefusalDelay(settings.failed_sign_in_seconds),
            link_delay=RefusalDelay(settings.failed_sign_in_seconds),
            registration_delay=RefusalDelay(settings.failed_sign_in_seconds),
            unknown_clients=asyncio.Semaphore(max(1, settings.database_pool_size // 2)),
        )

    def database_turn(self, *, is_known: bool) -> AbstractAsyncContextManager[None]:
        """Return a turn to use the database. A sign-in of an unknown client waits for it."""
        return nullcontext() if is_known else self.unknown_clients
