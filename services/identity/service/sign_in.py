"""Sign-in: the same work, time and response whether the account exists or not."""

import time
from contextlib import suppress
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from services.identity import queries
from services.identity.errors import InvalidCredentials, PasswordQueueFull, TooManyAttempts
from services.identity.models import User
from services.identity.schemas.sign_in import Credentials, TokensRead
from services.identity.security.device_cookies import Device
from services.identity.security.tokens import TokenSigner
from services.identity.service import (
    admission,
    attempt_limits,
    organizations,
    second_step,
    sessions,
)
from services.identity.service.attempt_limits import Counter
from services.identity.service.resources import Resources
from shared.changes import act_as, record, record_fact
from shared.errors import AppError, ServiceUnavailable
from shared.networks import network_of
from shared.tenancy import see_all_tenants
from shared.work import Work

UNCONFIRMED = "address_not_confirmed"


@dataclass(frozen=True, slots=True)
class SignedIn:
    """The result of a sign-in: tokens, and a cookie that makes the device known next time."""

    tokens: TokensRead
    device_cookie: str


@dataclass(frozen=True, slots=True)
class SignInAttempt:
    """A sign-in that was counted and whose password has not been verified yet."""

    user: User | None
    counters: list[Counter]
    is_known: bool
    """Whether the user signed in from this device or network before."""


async def sign_in(
    work: Work, resources: Resources, credentials: Credentials, cookie: str | None
) -> SignedIn:
    """Exchange an e-mail address and a password for tokens.

    Raises InvalidCredentials, TooManyAttempts, PasswordQueueFull; after the right password
    AwaitingApproval, AccountDeactivated, OrganizationDeactivated, SecondFactorRequired,
    SecondFactorSetupRequired.
    """
    started_at = time.monotonic()
    device = resources.devices.read(cookie)
    network = network_of(work.origin.ip_address)
    limiter = resources.sign_in_limiter
    try:
        with limiter.admitted(network, by_known_device=device is not None) as is_known:
            # A flood of unknown clients leaves database connections for everything else.
            async with resources.database_turn(is_known=is_known):
                attempt = await _count(work, resources, credentials, device)
            signed_in = await _complete(work, resources, credentials, attempt)
        limiter.remember_network(network)
        return signed_in
    except InvalidCredentials:
        await resources.refusal_delay.wait(started_at)
        raise


async def _count(
    work: Work, resources: Resources, credentials: Credentials, device: Device | None
) -> SignInAttempt:
    """Find the account and count the attempt; raises TooManyAttempts, PasswordQueueFull."""
    network = network_of(work.origin.ip_address)
    spellings = credentials.spellings
    async with work.begin() as session:
        await see_all_tenants(session)
        user = await queries.find_user_by_email(session, *spellings)
        # Another spelling allows no more attempts, whether there is an account or not.
        account = attempt_limits.account_key(user.id if user else None, spellings[-1])
        user_id, since = (user.id, user.known_since) if user else (0, None)
        knows_network = await queries.has_signed_in_from(session, user_id, network, since)
        knows_device = device is not None and device.is_valid_for(user_id, since)
        if knows_device:
            counters = attempt_limits.known_device_counters(account, since)
        elif knows_network:
            counters = attempt_limits.known_network_counters(account, since, network)
        else:
            counters = attempt_limits.unknown_client_counters(account, network)
        is_known = knows_device or knows_network
        resources.passwords.require_place(trusted=is_known)
        try:
            await attempt_limits.count_attempt(session, counters)
        except TooManyAttempts as refusal:
            if user is not None:
                # For the audit trail only: the response does not name the account.
                refusal.about_user_id = user.id
                refusal.about_organization_id = user.organization_id
            raise
    return SignInAttempt(user, counters, is_known)


async def _complete(
    work: Work, resources: Resources, credentials: Credentials, attempt: SignInAttempt
) -> SignedIn:
    """Verify the password and open a session."""
    try:
        user = await _authenticate(work, resources, credentials, attempt)
        if user.organization_id is not None:
            await organizations.find(work, resources.clients, user.organization_id)
        signer = await resources.issuer.signer()
    except ServiceUnavailable:  # PasswordQueueFull too
        await attempt_limits.withdraw_attempt_now(work, attempt.counters)
        raise
    async with work.begin() as session:
        await see_all_tenants(session)
        await attempt_limits.withdraw_attempt(session, attempt.counters)
        outcome = await _open_session(session, work, resources, signer, user)
    if isinstance(outcome, AppError):
        raise outcome
    return SignedIn(outcome, resources.devices.make(user.id))


async def _authenticate(
    work: Work, resources: Resources, credentials: Credentials, attempt: SignInAttempt
) -> User:
    """Return the user whose password it is, with a renewed hash if it was outdated.

    Raises InvalidCredentials, with LOGIN_FAILED recorded, and PasswordQueueFull.
    """
    user, password = attempt.user, credentials.password
    password_hash = user.password_hash if user and user.has_password else None
    verdict = await resources.passwords.verify(password, password_hash, trusted=attempt.is_known)
    # Who has registered with an address that is not theirs must not learn whether it was free.
    if user is None or not verdict.matches or user.awaits_confirmation:
        async with work.begin() as session:
            await see_all_tenants(session)
            if user is None:
                record_fact(session, "LOGIN_FAILED", "user", details={"reason": "unknown_account"})
            else:
                row = await session.get_one(User, user.id)
                reason = UNCONFIRMED if verdict.matches else "wrong_password"
                record(session, "LOGIN_FAILED", row, reason=reason)
        raise InvalidCredentials
    if verdict.outdated:
        # When the queue is full, the next sign-in renews the hash.
        with suppress(PasswordQueueFull):
            await _renew_hash(work, resources, user, password)
    return user


async def _renew_hash(work: Work, resources: Resources, user: User, password: str) -> None:
    """Replace a hash of version 1, or one with older parameters."""
    new_hash = await resources.passwords.hash(password)
    async with work.begin() as session:
        await see_all_tenants(session)
        row = await queries.find_user_for_update(session, user.id)
        if row is not None and row.password_hash == user.password_hash:
            row.password_hash = new_hash
    user.password_hash = new_hash


async def _open_session(
    session: AsyncSession,
    work: Work,
    resources: Resources,
    signer: TokenSigner,
    authenticated: User,
) -> TokensRead | AppError:
    """Open a session, or return the refusal: it is stored, so it must not be raised here."""
    user = await queries.find_user_for_update(session, authenticated.id)
    if user is None or user.password_hash != authenticated.password_hash:
        return InvalidCredentials()
    refusal = await admission.refusal_of(session, user)
    if refusal is not None:
        record(session, "LOGIN_FAILED", user, reason=refusal.code())
        return refusal
    act_as(session, user.id, user.role)
    second_step_needed = await second_step.find_needed(session, resources, user)
    if second_step_needed is not None:
        return second_step_needed
    return await sessions.open_session(session, signer, user, work.origin)
