"""Second factors, the second step of a sign-in, and a new proof of who is signed in."""

from fastapi import Request, Response

from services.identity.endpoints.auth import set_device_cookie
from services.identity.endpoints.dependencies import AnonymousWorkDep, ResourcesDep
from services.identity.errors import (
    AccountDeactivated,
    AwaitingApproval,
    ChallengeNotValid,
    CodeWrong,
    OrganizationDeactivated,
    PasswordQueueFull,
    PresentPasswordWrong,
    SecondFactorExists,
    SecondFactorMissing,
    SecondFactorWrong,
    TooManyAttempts,
)
from services.identity.schemas.common import Message
from services.identity.schemas.second_factors import (
    AppConfirmation,
    Challenge,
    ChallengeAnswer,
    FactorRead,
    FactorSetupRead,
    Reauthentication,
    ReauthenticationRead,
    RecoveryCodesRead,
    SecondStepRead,
)
from services.identity.security.tokens import TOKEN_SECONDS
from services.identity.service import reauthentication, second_factors, second_step
from services.identity.service.second_factors import FactorSetup
from shared.auth import ActorDep
from shared.errors import Invalid, ReauthenticationRequired, Unauthenticated, responses
from shared.json_responses import ResponseWithSecret
from shared.routing import router
from shared.sessions import SessionDep, WorkDep

factors = router(prefix="/api/auth", tags=["sign-in"], responses=responses(Invalid))


@factors.post(
    "/login/second-factor/setup", responses=responses(ChallengeNotValid, SecondFactorExists)
)
async def set_up_at_sign_in(
    body: Challenge, response: Response, work: AnonymousWorkDep, resources: ResourcesDep
) -> FactorSetupRead:
    """Set up the second factor without which you cannot sign in.

    Give the secret to an authenticator app, and send a code of it to
    `/api/auth/login/second-factor`.
    """
    setup = await second_step.set_up(work, resources, body.mfa_token)
    response.headers["Cache-Control"] = "no-store"
    return FactorSetupRead(secret=setup.secret, otpauth_uri=setup.address)


@factors.post(
    "/login/second-factor",
    responses=responses(
        ChallengeNotValid,
        SecondFactorWrong,
        TooManyAttempts,
        AwaitingApproval,
        AccountDeactivated,
        OrganizationDeactivated,
    ),
)
async def complete_sign_in(
    body: ChallengeAnswer,
    request: Request,
    response: Response,
    work: AnonymousWorkDep,
    resources: ResourcesDep,
) -> SecondStepRead:
    """Complete a sign-in with a code of your second factor, or with a recovery code.

    `mfa_token` is in the answer to the password. It is valid for five minutes and once.
    """
    completed = await second_step.complete(work, resources, body)
    response.headers["Cache-Control"] = "no-store"
    set_device_cookie(request, response, resources, completed.device_cookie)
    return completed.tokens


@factors.post(
    "/reauthenticate",
    response_model=ReauthenticationRead,
    responses=responses(
        Unauthenticated, PresentPasswordWrong, CodeWrong, TooManyAttempts, PasswordQueueFull
    ),
)
async def reauthenticate(
    body: Reauthentication, work: WorkDep, actor: ActorDep, resources: ResourcesDep
) -> Response:
    """Prove again who you are, by the password or a code, where 401 `reauthentication_required`
    demands it.

    The new access token, and those of later refreshes, state the time in `auth_time`.
    """
    token = await reauthentication.reauthenticate(work, actor, resources, body)
    return _with_secret(
        ReauthenticationRead(access_token=token, token_type="bearer", expires_in=TOKEN_SECONDS),  # noqa: S106
        ReauthenticationRead(access_token=None, token_type="bearer", expires_in=TOKEN_SECONDS),  # noqa: S106
    )


@factors.get("/second-factor", responses=responses(Unauthenticated))
async def get_second_factor(
    session: SessionDep, actor: ActorDep, resources: ResourcesDep
) -> FactorRead:
    """Show whether you have a second factor, and how many recovery codes are left."""
    return await second_factors.get_own(session, actor, resources)


@factors.post(
    "/second-factor",
    status_code=201,
    response_model=FactorSetupRead,
    responses=responses(Unauthenticated, ReauthenticationRequired, SecondFactorExists),
)
async def set_up_second_factor(
    session: SessionDep, actor: ActorDep, resources: ResourcesDep
) -> Response:
    """Set up an authenticator app as your second factor. Its secret is shown once.

    It counts after you have confirmed it by a code. Needs a sign-in of the last 15 minutes.
    """
    setup: FactorSetup = await second_factors.set_up(session, actor, resources)
    return _with_secret(
        FactorSetupRead(secret=setup.secret, otpauth_uri=setup.address),
        FactorSetupRead(secret=None, otpauth_uri=None),
        status_code=201,
    )


@factors.post(
    "/second-factor/confirm",
    response_model=RecoveryCodesRead,
    responses=responses(
        Unauthenticated,
        ReauthenticationRequired,
        SecondFactorMissing,
        SecondFactorExists,
        CodeWrong,
    ),
)
async def confirm_second_factor(
    body: AppConfirmation, session: SessionDep, actor: ActorDep, resources: ResourcesDep
) -> Response:
    """Confirm your app by a code of it. The answer has ten recovery codes, which are shown once."""
    return _recovery_codes(await second_factors.confirm(session, actor, resources, body.code))


@factors.post(
    "/second-factor/recovery-codes",
    response_model=RecoveryCodesRead,
    responses=responses(Unauthenticated, ReauthenticationRequired, SecondFactorMissing),
)
async def renew_recovery_codes(
    session: SessionDep, actor: ActorDep, resources: ResourcesDep
) -> Response:
    """Replace your recovery codes. Needs a sign-in of the last 15 minutes."""
    return _recovery_codes(await second_factors.renew_recovery_codes(session, actor, resources))


@factors.delete(
    "/second-factor",
    responses=responses(Unauthenticated, ReauthenticationRequired, SecondFactorMissing),
)
async def remove_second_factor(session: SessionDep, actor: ActorDep) -> Message:
    """Remove your second factor. Needs a sign-in of the last 15 minutes."""
    await second_factors.remove_own(session, actor)
    return Message(message="Second factor removed successfully")


def _recovery_codes(recovery_codes: list[str]) -> Response:
    return _with_secret(
        RecoveryCodesRead(recovery_codes=recovery_codes), RecoveryCodesRead(recovery_codes=None)
    )


def _with_secret(
    shown: ReauthenticationRead | FactorSetupRead | RecoveryCodesRead,
    repeated: ReauthenticationRead | FactorSetupRead | RecoveryCodesRead,
    *,
    status_code: int = 200,
) -> Response:
    response = ResponseWithSecret(
        shown.model_dump_json().encode(),
        repeated=repeated.model_dump_json().encode(),
        status_code=status_code,
    )
    response.headers["Cache-Control"] = "no-store"
    return response
