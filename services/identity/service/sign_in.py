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
from services.identity.security.tokens import Signer
from services.identity.service import admission, attempt_limits, organizations, sessions
from services.identity.service.attempt_limits import Counter
from services.identity.service.resources import Equipment
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
    work: Work, equipment: Equipment, credentials: Credentials, cookie: str | None
) -> SignedIn:
    """Exchange an e-mail address and a password for tokens.

    Raises InvalidCredentials, TooManyAttempts, PasswordQueueFull; after the right password
    AwaitingApproval, AccountDeactivated, OrganizationDeactivated.
    """
    started = time.monotonic()
    device = equipment.devices.read(cookie)
    network = network_of(work.origin.ip_address)
    try:
        with equipment.door.entered(network, by_known_device=device is not None) as is_known:
            # A flood of strangers' sign-ins leaves connections for everything else.
            async with equipment.connections(for_stranger=not is_known):
                attempt = await _begin(work, equipment, credentials, device)
            signed_in = await _finish(work, equipment, credentials, attempt)
        equipment.door.remember(network)
        return signed_in
    except InvalidCredentials:
        await equipment.pace.wait(started)
        raise


async def _finish(
    work: Work, equipment: Equipment, credentials: Credentials, attempt: _Attempt
) -> SignedIn:
    """Look at the password, and open a session."""
    try:
        user = await _recognize(work, equipment, credentials, attempt)
        if user.organization_id is not None:
            await organizations.find(work, equipment.clients, user.organization_id)
        signer = await equipment.issuer.signer()
    except ServiceUnavailable:  # a full queue of passwords is one
        await attempt_limits.give_back(work, attempt.counters)
        raise
    async with work.begin(EVERYTHING) as session:
        await attempt_limits.succeeded(session, attempt.counters)
        outcome = await _open(session, work, signer, user)
    if isinstance(outcome, AppError):
        raise outcome
    return SignedIn(outcome, equipment.devices.make(user.id))


async def _begin(
    work: Work, equipment: Equipment, credentials: Credentials, device: Device | None
) -> _Attempt:
    """Find the account and count the attempt; raises TooManyAttempts, PasswordQueueFull."""
    network = network_of(work.origin.ip_address)
    spellings = credentials.spellings
    async with work.begin(EVERYTHING) as session:
        user = await queries.find_by_email(session, *spellings)
        # Another spelling must not be another chance, whether there is an account or not.
        account = attempt_limits.account_of(user.id if user else None, spellings[-1])
        user_id, since = (user.id, user.known_since) if user else (0, None)
        knows_network = await queries.knows_network(session, user_id, network, since)
        knows_device = device is not None and device.is_known_to(user_id, since)
        is_known = knows_device or knows_network
        if knows_device:
            counters = attempt_limits.of_known_device(account, since)
        elif knows_network:
            counters = attempt_limits.of_known_network(account, since, network)
        else:
            counters = attempt_limits.of_stranger(account, network)
        equipment.passwords.require_place(trusted=is_known)
        try:
            await attempt_limits.attempt(session, counters)
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
    work: Work, equipment: Equipment, credentials: Credentials, attempt: _Attempt
) -> User:
    """Return the user whose password it is, an outdated hash renewed on the object.

    Raises InvalidCredentials, with LOGIN_FAILED recorded, and PasswordQueueFull.
    """
    user, passwords = attempt.user, equipment.passwords
    hashed = user.password_hash if user else None
    verdict = await passwords.verify(credentials.password, hashed, trusted=attempt.trusted)
    if user is None or not verdict.matches:
        await _record_failure(work, user)
        raise InvalidCredentials
    if verdict.outdated:
        # The next sign-in renews it too.
        with suppress(PasswordQueueFull):
            await _renew_hash(work, equipment, user, credentials.password)
    return user


async def _record_failure(work: Work, user: User | None) -> None:
    async with work.begin(EVERYTHING) as session:
        if user is None:
            note(session, "LOGIN_FAILED", "user", details={"reason": "unknown_account"})
        else:
            known = await session.get_one(User, user.id)
            record(session, "LOGIN_FAILED", known, reason="wrong_password")


async def _renew_hash(work: Work, equipment: Equipment, user: User, password: str) -> None:
    """Replace a hash of version 1, or of older parameters, by one of ours."""
    renewed = await equipment.passwords.hash(password)
    async with work.begin(EVERYTHING) as session:
        locked = await queries.lock_user(session, user.id)
        if locked is not None and locked.password_hash == user.password_hash:
            locked.password_hash = renewed
    user.password_hash = renewed


async def _open(
    session: AsyncSession, work: Work, signer: Signer, recognized: User
) -> TokensRead | AppError:
    """Open a session, or return why there is none: the refusal is recorded, so no error yet."""
    user = await queries.lock_user(session, recognized.id)
    if user is None or user.password_hash != recognized.password_hash:
        return InvalidCredentials()
    refusal = await admission.why_not(session, user)
    if refusal is not None:
        record(session, "LOGIN_FAILED", user, reason=refusal.code())
        return refusal
    act_as(session, user.id, user.role)
    return await sessions.open_session(session, signer, user, work.origin)
