"""Signing in: the same work, time and answer whether the account exists or not."""

import time
from contextlib import suppress
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from services.identity import queries
from services.identity.errors import InvalidCredentials, TooManyAttempts
from services.identity.models import User
from services.identity.schemas import Credentials, TokensRead
from services.identity.security.device_cookies import Device
from services.identity.security.passwords import PasswordQueueFull
from services.identity.security.tokens import TokenSigner
from services.identity.service import admission, attempt_limits, organizations, sessions
from services.identity.service.attempt_limits import Counter
from services.identity.service.resources import Resources
from shared.changes import act_as, note, record
from shared.errors import AppError, ServiceUnavailable
from shared.networks import network_of
from shared.tenancy import EVERYTHING
from shared.work import Work


@dataclass(frozen=True, slots=True)
class SignedIn:
    """What a sign-in gives: tokens, and a cookie by which the device is known next time."""

    tokens: TokensRead
    device_cookie: str


@dataclass(frozen=True, slots=True)
class _Attempt:
    """A sign-in whose password is about to be looked at."""

    user: User | None
    counters: list[Counter]
    trusted: bool


async def sign_in(
    work: Work, resources: Resources, credentials: Credentials, cookie: str | None
) -> SignedIn:
    """Exchange an e-mail address and a password for tokens.

    Raises InvalidCredentials, TooManyAttempts, PasswordQueueFull; after the right password
    AwaitingApproval, AccountDeactivated, OrganizationDeactivated.
    """
    started = time.monotonic()
    device = resources.devices.read(cookie)
    network = network_of(work.origin.ip_address)
    try:
        with resources.sign_in_limiter.admitted(
            network, by_known_device=device is not None
        ) as is_known:
            # A flood of strangers' sign-ins leaves connections for everything else.
            async with resources.connections(for_stranger=not is_known):
                attempt = await _begin(work, resources, credentials, device)
            signed_in = await _finish(work, resources, credentials, attempt)
        resources.sign_in_limiter.remember_network(network)
        return signed_in
    except InvalidCredentials:
        await resources.refusal_delay.wait(started)
        raise


async def _finish(
    work: Work, resources: Resources, credentials: Credentials, attempt: _Attempt
) -> SignedIn:
    """Look at the password, and open a session."""
    try:
        user = await _recognize(work, resources, credentials, attempt)
        if user.organization_id is not None:
            await organizations.find(work, resources.clients, user.organization_id)
        signer = await resources.issuer.signer()
    except ServiceUnavailable:  # a full queue of passwords is one
        await attempt_limits.withdraw_attempt_now(work, attempt.counters)
        raise
    async with work.begin(EVERYTHING) as session:
        await attempt_limits.withdraw_attempt(session, attempt.counters)
        outcome = await _open(session, work, signer, user)
    if isinstance(outcome, AppError):
        raise outcome
    return SignedIn(outcome, resources.devices.make(user.id))


async def _begin(
    work: Work, resources: Resources, credentials: Credentials, device: Device | None
) -> _Attempt:
    """Find the account and count the attempt; raises TooManyAttempts, PasswordQueueFull."""
    network = network_of(work.origin.ip_address)
    spellings = credentials.spellings
    async with work.begin(EVERYTHING) as session:
        user = await queries.find_user_by_email(session, *spellings)
        # Another spelling must not be another chance, whether there is an account or not.
        account = attempt_limits.account_key(user.id if user else None, spellings[-1])
        user_id, since = (user.id, user.known_since) if user else (0, None)
        has_signed_in_from = await queries.has_signed_in_from(session, user_id, network, since)
        knows_device = device is not None and device.is_valid_for(user_id, since)
        is_known = knows_device or has_signed_in_from
        if knows_device:
            counters = attempt_limits.known_device_counters(account, since)
        elif has_signed_in_from:
            counters = attempt_limits.known_network_counters(account, since, network)
        else:
            counters = attempt_limits.unknown_client_counters(account, network)
        resources.passwords.require_place(trusted=is_known)
        try:
            await attempt_limits.count_attempt(session, counters)
        except TooManyAttempts as refusal:
            raise _about(refusal, user) from None
    return _Attempt(user, counters, trusted=is_known)


def _about(refusal: TooManyAttempts, user: User | None) -> TooManyAttempts:
    """Say in the audit trail, and nowhere else, whose account it was."""
    if user is not None:
        refusal.about_user_id = user.id
        refusal.about_organization_id = user.organization_id
    return refusal


async def _recognize(
    work: Work, resources: Resources, credentials: Credentials, attempt: _Attempt
) -> User:
    """Return the user whose password it is, an outdated hash renewed on the object.

    Raises InvalidCredentials, with LOGIN_FAILED recorded, and PasswordQueueFull.
    """
    user, passwords = attempt.user, resources.passwords
    hashed = user.password_hash if user else None
    verdict = await passwords.verify(credentials.password, hashed, trusted=attempt.trusted)
    if user is None or not verdict.matches:
        await _record_failure(work, user)
        raise InvalidCredentials
    if verdict.outdated:
        # The next sign-in renews it too.
        with suppress(PasswordQueueFull):
            await _renew_hash(work, resources, user, credentials.password)
    return user


async def _record_failure(work: Work, user: User | None) -> None:
    async with work.begin(EVERYTHING) as session:
        if user is None:
            note(session, "LOGIN_FAILED", "user", details={"reason": "unknown_account"})
        else:
            known = await session.get_one(User, user.id)
            record(session, "LOGIN_FAILED", known, reason="wrong_password")


async def _renew_hash(work: Work, resources: Resources, user: User, password: str) -> None:
    """Replace a hash of version 1, or of older parameters, by one of ours."""
    renewed = await resources.passwords.hash(password)
    async with work.begin(EVERYTHING) as session:
        locked = await queries.lock_user(session, user.id)
        if locked is not None and locked.password_hash == user.password_hash:
            locked.password_hash = renewed
    user.password_hash = renewed


async def _open(
    session: AsyncSession, work: Work, signer: TokenSigner, recognized: User
) -> TokensRead | AppError:
    """Open a session, or return why there is none: the refusal is recorded, so no error yet."""
    user = await queries.lock_user(session, recognized.id)
    if user is None or user.password_hash != recognized.password_hash:
        return InvalidCredentials()
    refusal = await admission.refusal_of(session, user)
    if refusal is not None:
        record(session, "LOGIN_FAILED", user, reason=refusal.code())
        return refusal
    act_as(session, user.id, user.role)
    return await sessions.open_session(session, signer, user, work.origin)
