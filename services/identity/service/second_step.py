"""The second step of a sign-in: a code, after the password was right.

The token that joins the two steps is no access token: it is random, is stored as a hash, and is
good for nothing but the second step, for five minutes and once.
"""

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from services.identity import queries
from services.identity.errors import (
    ChallengeNotValid,
    SecondFactorRequired,
    SecondFactorSetupRequired,
    SecondFactorWrong,
    SecondStepNeeded,
    TooManyAttempts,
)
from services.identity.models import (
    CHALLENGE_LIFETIME,
    PASSWORD_AND_CODE,
    SignInChallenge,
    User,
)
from services.identity.schemas.second_factors import ChallengeAnswer, SecondStepRead
from services.identity.security.second_factors import hash_challenge_token, new_challenge_token
from services.identity.security.tokens import TokenSigner
from services.identity.service import admission, attempt_limits, second_factors, sessions
from services.identity.service.resources import Resources
from services.identity.service.second_factors import FactorSetup
from shared.changes import act_as, record
from shared.db import now
from shared.errors import AppError
from shared.networks import network_of
from shared.tenancy import see_all_tenants
from shared.work import Work


@dataclass(frozen=True, slots=True)
class CompletedSignIn:
    """The tokens of a sign-in in two steps, and a cookie that makes the device known."""

    tokens: SecondStepRead
    device_cookie: str


async def find_needed(
    session: AsyncSession, resources: Resources, user: User
) -> SecondStepNeeded | None:
    """Return the error that starts the second step, if a locked user needs one, or None.

    Its challenge must be committed, so it must not be raised in the transaction.
    """
    has_factor = await queries.has_factor(session, user.id)
    if not has_factor and not second_factors.is_required_of(resources.settings, user):
        return None
    token = new_challenge_token()
    session.add(
        SignInChallenge(
            token_hash=hash_challenge_token(token),
            user_id=user.id,
            expires_at=now() + CHALLENGE_LIFETIME,
        )
    )
    await session.flush()
    error = SecondFactorRequired if has_factor else SecondFactorSetupRequired
    return error(token, int(CHALLENGE_LIFETIME.total_seconds()))


async def set_up(work: Work, resources: Resources, token: str) -> FactorSetup:
    """Create a secret for a user who must set up a second factor before the sign-in completes.

    Raises ChallengeNotValid, SecondFactorExists.
    """
    async with work.begin() as session:
        await see_all_tenants(session)
        user, _ = await _lock_user_of(session, token)
        act_as(session, user.id, user.role)
        return await second_factors.begin_setup(session, resources.factor_secrets, user)


async def complete(work: Work, resources: Resources, body: ChallengeAnswer) -> CompletedSignIn:
    """Exchange a challenge and a code for tokens. A code that confirms a new app adds it.

    Raises ChallengeNotValid, SecondFactorWrong, TooManyAttempts, AwaitingApproval,
    AccountDeactivated, OrganizationDeactivated.
    """
    signer = await resources.issuer.signer()
    await _count(work, body.mfa_token)
    async with work.begin() as session:
        await see_all_tenants(session)
        user, challenge = await _lock_user_of(session, body.mfa_token)
        outcome = await _complete(session, work, resources, signer, user, body.code)
        if isinstance(outcome, SecondStepRead):
            challenge.used_at = now()
            counters = attempt_limits.second_factor_counters(user.id)
            await attempt_limits.withdraw_attempt(session, counters)
    if isinstance(outcome, AppError):
        raise outcome
    resources.sign_in_limiter.remember_network(network_of(work.origin.ip_address))
    return CompletedSignIn(outcome, resources.devices.make(user.id))


async def _count(work: Work, token: str) -> None:
    """Count a code; raises ChallengeNotValid, TooManyAttempts."""
    async with work.begin() as session:
        await see_all_tenants(session)
        challenge = await queries.find_challenge(session, hash_challenge_token(token))
        user = await queries.find_user(session, challenge.user_id) if challenge else None
        if user is None:
            raise ChallengeNotValid
        counters = attempt_limits.second_factor_counters(user.id)
        try:
            await attempt_limits.count_attempt(session, counters)
        except TooManyAttempts as refusal:
            refusal.about_user_id = user.id
            refusal.about_organization_id = user.organization_id
            raise


async def _lock_user_of(session: AsyncSession, token: str) -> tuple[User, SignInChallenge]:
    """Return the user of a challenge, locked, and the challenge. Raises ChallengeNotValid."""
    token_hash = hash_challenge_token(token)
    challenge = await queries.find_challenge(session, token_hash)
    user = await queries.find_user_for_update(session, challenge.user_id) if challenge else None
    # Again: another request may have used it before the user was locked.
    challenge = await queries.find_challenge(session, token_hash)
    if user is None or challenge is None or not challenge.is_valid_for(user):
        raise ChallengeNotValid
    return user, challenge


async def _complete(
    session: AsyncSession,
    work: Work,
    resources: Resources,
    signer: TokenSigner,
    user: User,
    code: str,
) -> SecondStepRead | AppError:
    """Open a session, or return the refusal: it is recorded, so it must not be raised here."""
    refusal = await admission.refusal_of(session, user)
    if refusal is not None:
        record(session, "LOGIN_FAILED", user, reason=refusal.code())
        return refusal
    factor = await queries.find_factor(session, user.id)
    secrets, recovery_codes = resources.factor_secrets, None
    if factor is not None and factor.confirmed_at is None:
        recovery_codes = await second_factors.confirm_setup(session, secrets, user, factor, code)
        is_right = recovery_codes is not None
    else:
        is_right = await second_factors.use_code(session, secrets, user, code)
    if not is_right:
        record(session, "LOGIN_FAILED", user, reason="wrong_code")
        return SecondFactorWrong()
    act_as(session, user.id, user.role)
    tokens = await sessions.open_session(session, signer, user, work.origin, amr=PASSWORD_AND_CODE)
    return SecondStepRead(**tokens.model_dump(), recovery_codes=recovery_codes)
