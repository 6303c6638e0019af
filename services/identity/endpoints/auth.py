"""Registration, sign-in, and a user's own account."""

import hashlib
import json
from typing import Annotated, Any, Literal

from fastapi import Form, Request, Response
from pydantic import BaseModel

from services.identity.endpoints.dependencies import (
    AnonymousClaimedWorkDep,
    AnonymousWorkDep,
    ResourcesDep,
    user_response,
)
from services.identity.errors import (
    AccountDeactivated,
    AwaitingApproval,
    EmailTaken,
    InvalidCredentials,
    InvalidRefreshToken,
    OrganizationDeactivated,
    OrganizationNotFound,
    PasswordQueueFull,
    PresentPasswordWrong,
    RegistrationClosed,
    SecondFactorRequired,
    SecondFactorSetupRequired,
    SessionNotFound,
    TooManyAttempts,
)
from services.identity.schemas.common import Message, PresentPassword
from services.identity.schemas.sign_in import (
    Credentials,
    LogoutRequest,
    PasswordChange,
    RefreshRequest,
    SessionRead,
    TokensRead,
)
from services.identity.schemas.users import (
    ProfileRead,
    ProfileUpdate,
    Registration,
    RegistrationRead,
)
from services.identity.security.device_cookies import COOKIE, HTTPS_COOKIE, MAX_AGE
from services.identity.service import profile, registration, sessions, sign_in
from services.identity.service.profile import Profile
from services.identity.service.resources import Resources
from services.identity.service.sessions import PresentedToken
from shared import auth as tokens
from shared.auth import ActorDep
from shared.errors import Invalid, ServiceUnavailable, StaleVersion, Unauthenticated, responses
from shared.fields import Name, PathUuid
from shared.json_responses import json_response
from shared.preconditions import PreconditionDep, TaggedResponse
from shared.routing import router
from shared.sessions import ReaderDep, SessionDep, UnclaimedWorkDep
from shared.work import Work

auth = router(prefix="/api/auth", tags=["sign-in"], responses=responses(Invalid))
keys = router(tags=["sign-in"])

_COOKIE_PATH = "/api/auth"
_SIGN_IN_ERRORS = responses(
    InvalidCredentials,
    AwaitingApproval,
    AccountDeactivated,
    OrganizationDeactivated,
    TooManyAttempts,
    PasswordQueueFull,
    SecondFactorRequired,
    SecondFactorSetupRequired,
)


class PasswordForm(BaseModel):
    """The form of RFC 6749, section 4.3.2. Its scope and client are ignored."""

    grant_type: Literal["password"] = "password"
    username: Name
    password: PresentPassword
    scope: str = ""
    client_id: str = ""
    client_secret: str = ""


@auth.post(
    "/register",
    status_code=201,
    responses=responses(
        RegistrationClosed, OrganizationNotFound, EmailTaken, TooManyAttempts, ServiceUnavailable
    ),
)
async def register(
    body: Registration, work: AnonymousClaimedWorkDep, resources: ResourcesDep
) -> RegistrationRead:
    """Register as a client. An owner of the organization or an administrator approves you.

    You confirm the address by a link in a message first, unless the installation sends no mail. If
    the address has an account, the answer is the same, and its owner gets a message instead.
    """
    return RegistrationRead.model_validate(await registration.register(work, resources, body))


@auth.post("/login", responses=_SIGN_IN_ERRORS)
async def login(
    body: Credentials,
    request: Request,
    response: Response,
    work: AnonymousWorkDep,
    resources: ResourcesDep,
) -> TokensRead:
    """Sign in with e-mail address and password.

    A user with a second factor gets 403 `second_factor_required`, and one who must set it up
    `second_factor_setup_required`. Its `mfa_token` is valid for the second step, for `expires_in`
    seconds.
    """
    return await _sign_in(request, response, work, resources, body)


@auth.post("/token", responses=_SIGN_IN_ERRORS)
async def token(
    form: Annotated[PasswordForm, Form()],
    request: Request,
    response: Response,
    work: AnonymousWorkDep,
    resources: ResourcesDep,
) -> TokensRead:
    """Sign in by an OAuth2 password form, for tools."""
    credentials = Credentials(email=form.username, password=form.password)
    return await _sign_in(request, response, work, resources, credentials)


async def _sign_in(
    request: Request,
    response: Response,
    work: Work,
    resources: Resources,
    credentials: Credentials,
) -> TokensRead:
    signed_in = await sign_in.sign_in(work, resources, credentials, _device_cookie_of(request))
    response.headers["Cache-Control"] = "no-store"
    set_device_cookie(request, response, resources, signed_in.device_cookie)
    return signed_in.tokens


def _device_cookie_of(request: Request) -> str | None:
    return request.cookies.get(HTTPS_COOKIE) or request.cookies.get(COOKIE)


def set_device_cookie(
    request: Request, response: Response, resources: Resources, cookie: str
) -> None:
    """Set the cookie that makes the device known."""
    is_secure = resources.settings.secure_cookies
    response.set_cookie(
        HTTPS_COOKIE if is_secure else COOKIE,
        cookie,
        max_age=int(MAX_AGE.total_seconds()),
        # The prefix __Host- requires the path of the whole host.
        path="/" if is_secure else _COOKIE_PATH,
        httponly=True,
        samesite="strict",
        secure=is_secure,
    )
    if is_secure and COOKIE in request.cookies:
        response.delete_cookie(COOKIE, path=_COOKIE_PATH, httponly=True, samesite="strict")


@auth.post(
    "/refresh",
    responses=responses(
        InvalidRefreshToken, AwaitingApproval, AccountDeactivated, OrganizationDeactivated
    ),
)
async def refresh(
    body: RefreshRequest,
    request: Request,
    response: Response,
    work: AnonymousWorkDep,
    resources: ResourcesDep,
) -> TokensRead:
    """Exchange a refresh token for new tokens.

    A refresh token can be exchanged once. Within ten seconds the same token returns the same
    tokens again to the same device, which its cookie shows. Later, or when the new refresh token
    was exchanged already, it ends the session.
    """
    response.headers["Cache-Control"] = "no-store"
    presented = PresentedToken(body.refresh_token, _device_cookie_of(request))
    return await sessions.refresh(work, resources, presented)


@auth.post("/logout", responses=responses(InvalidRefreshToken, SessionNotFound))
async def logout(
    body: LogoutRequest, request: Request, credentials: tokens.Credentials, work: AnonymousWorkDep
) -> Message:
    """End the session of the refresh token, or without one that of the access token."""
    if body.refresh_token is not None:
        await sessions.sign_out(work, body.refresh_token)
    else:
        actor = await tokens.get_actor(await tokens.find_actor(request, credentials))
        await sessions.sign_out_here(work, actor)
    return Message(message="Signed out successfully")


@auth.get("/me", response_model=ProfileRead, responses=responses(Unauthenticated))
async def get_me(reader: ReaderDep, actor: ActorDep, response: TaggedResponse) -> Response:
    """Show your own account."""
    document = await profile.get_profile(reader, actor)
    return json_response(response, document.body, version=document.facts.version)


@auth.put("/me", responses=responses(Unauthenticated, StaleVersion))
async def update_me(
    body: ProfileUpdate,
    session: SessionDep,
    actor: ActorDep,
    precondition: PreconditionDep,
    response: TaggedResponse,
) -> ProfileRead:
    """Change your own name, telephone number or language of messages."""
    changes = body.changes()
    return _profile_response(
        response, await profile.update_profile(session, actor, changes, precondition)
    )


def _profile_response(response: Response, own: Profile) -> ProfileRead:
    user = user_response(response, own.user)
    return ProfileRead(**user.model_dump(), permissions=own.permissions)


@auth.put(
    "/password",
    responses=responses(Unauthenticated, PresentPasswordWrong, TooManyAttempts, PasswordQueueFull),
)
async def change_password(
    body: PasswordChange,
    request: Request,
    response: Response,
    work: UnclaimedWorkDep,
    actor: ActorDep,
    resources: ResourcesDep,
) -> Message:
    """Change your own password; every other session ends."""
    cookie = await profile.change_password(work, actor, resources, body)
    set_device_cookie(request, response, resources, cookie)
    return Message(message="Password updated successfully")


@auth.get("/sessions", response_model=list[SessionRead], responses=responses(Unauthenticated))
async def list_sessions(reader: ReaderDep, actor: ActorDep, response: Response) -> Response:
    """List your own live sessions, the one used last first."""
    return json_response(response, await sessions.list_own(reader, actor))


@auth.delete("/sessions", responses=responses(Unauthenticated))
async def sign_out_everywhere(session: SessionDep, actor: ActorDep) -> Message:
    """End all your sessions, including this one."""
    count = await sessions.end_all_own(session, actor)
    return Message(message=f"Signed out everywhere: {count} session(s) ended")


@auth.delete("/sessions/{session_id}", responses=responses(Unauthenticated, SessionNotFound))
async def end_session(session_id: PathUuid, session: SessionDep, actor: ActorDep) -> Message:
    """End one of your own sessions."""
    await sessions.end_own(session, actor, session_id)
    return Message(message="Session ended successfully")


@keys.get("/.well-known/jwks.json")
async def get_jwks(resources: ResourcesDep, response: TaggedResponse) -> dict[str, Any]:
    """Return the keys that verify access tokens (RFC 7517)."""
    public_keys = await resources.keyring.public_keys()
    digest = hashlib.sha256(json.dumps(public_keys, sort_keys=True).encode()).hexdigest()
    response.headers["ETag"] = f'"{digest[:32]}"'
    # Much shorter than the time for which a new key is published before it signs.
    response.headers["Cache-Control"] = "public, max-age=60"
    return public_keys
