"""Registration, sign-in, and one's own account."""

import hashlib
import json
from typing import Annotated, Any, Literal

from fastapi import Form, Request, Response
from pydantic import BaseModel

from services.identity.endpoints.dependencies import (
    AnonymousClaimedWorkDep,
    AnonymousWorkDep,
    ResourcesDep,
)
from services.identity.errors import (
    AccountDeactivated,
    AwaitingApproval,
    EmailTaken,
    InvalidCredentials,
    InvalidRefreshToken,
    OrganizationDeactivated,
    OrganizationNotFound,
    PresentPasswordWrong,
    RegistrationClosed,
    SessionNotFound,
    TooManyAttempts,
)
from services.identity.schemas import (
    Credentials,
    LogoutRequest,
    Message,
    PasswordChange,
    PresentPassword,
    ProfileRead,
    ProfileUpdate,
    RefreshRequest,
    Registration,
    SessionRead,
    TokensRead,
    UserRead,
)
from services.identity.security.device_cookies import COOKIE, HTTPS_COOKIE, MAX_AGE
from services.identity.security.passwords import PasswordQueueFull
from services.identity.service import profile, registration, sessions, sign_in
from services.identity.service.resources import Resources
from shared import auth as tokens
from shared.auth import ActorDep
from shared.errors import Invalid, ServiceUnavailable, StaleVersion, Unauthenticated, responses
from shared.fields import Name, PathUuid
from shared.preconditions import PreconditionDep, TaggedResponse, set_etag
from shared.routing import router
from shared.sessions import SessionDep, UnclaimedWorkDep
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
)


class PasswordForm(BaseModel):
    """RFC 6749, section 4.3.2, as tools send it; scope and client are of no meaning here."""

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
) -> UserRead:
    """Register as a client; an owner of the organization, or an administrator, lets you in."""
    return UserRead.model_validate(await registration.register(work, resources, body))


@auth.post("/login", responses=_SIGN_IN_ERRORS)
async def login(
    body: Credentials,
    request: Request,
    response: Response,
    work: AnonymousWorkDep,
    resources: ResourcesDep,
) -> TokensRead:
    """Sign in with e-mail address and password."""
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
    cookie = request.cookies.get(HTTPS_COOKIE) or request.cookies.get(COOKIE)
    signed_in = await sign_in.sign_in(work, resources, credentials, cookie)
    response.headers["Cache-Control"] = "no-store"
    _set_device_cookie(request, response, resources, signed_in.device_cookie)
    return signed_in.tokens


def _set_device_cookie(
    request: Request, response: Response, resources: Resources, cookie: str
) -> None:
    is_secure = resources.settings.secure_cookies
    response.set_cookie(
        HTTPS_COOKIE if is_secure else COOKIE,
        cookie,
        max_age=int(MAX_AGE.total_seconds()),
        # The prefix __Host- asks for the whole host.
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
    body: RefreshRequest, response: Response, work: AnonymousWorkDep, resources: ResourcesDep
) -> TokensRead:
    """Exchange a refresh token for new tokens.

    It is good once. Sent again within ten seconds it gives the same tokens; later, or once the new
    refresh token was exchanged, it ends the session.
    """
    response.headers["Cache-Control"] = "no-store"
    return await sessions.refresh(work, resources, body.refresh_token)


@auth.post("/logout", responses=responses(InvalidRefreshToken, SessionNotFound))
async def logout(
    body: LogoutRequest, request: Request, credentials: tokens.Credentials, work: AnonymousWorkDep
) -> Message:
    """End a session: the refresh token's, or the access token's when none is sent."""
    if body.refresh_token is not None:
        await sessions.sign_out(work, body.refresh_token)
    else:
        actor = await tokens.get_actor(await tokens.find_actor(request, credentials))
        await sessions.sign_out_here(work, actor)
    return Message(message="Signed out successfully")


@auth.get("/me", responses=responses(Unauthenticated))
async def get_me(session: SessionDep, actor: ActorDep, response: TaggedResponse) -> ProfileRead:
    """Show one's own account."""
    user = await profile.get(session, actor)
    set_etag(response, user.version)
    return await profile.describe(session, user)


@auth.put("/me", responses=responses(Unauthenticated, StaleVersion))
async def update_me(
    body: ProfileUpdate,
    session: SessionDep,
    actor: ActorDep,
    precondition: PreconditionDep,
    response: TaggedResponse,
) -> ProfileRead:
    """Change one's own name or telephone number."""
    user = await profile.update(session, actor, body.changes(), precondition)
    set_etag(response, user.version)
    return await profile.describe(session, user)


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
    """Change one's own password; every other session ends."""
    cookie = await profile.change_password(work, resources, actor, body)
    _set_device_cookie(request, response, resources, cookie)
    return Message(message="Password updated successfully")


@auth.get("/sessions", responses=responses(Unauthenticated))
async def list_sessions(session: SessionDep, actor: ActorDep) -> list[SessionRead]:
    """List one's own live sessions, the one used last first."""
    current = sessions.session_id_of(actor)
    return [
        SessionRead.of(opened, is_current=opened.id == current)
        for opened in await sessions.list_own(session, actor)
    ]


@auth.delete("/sessions", responses=responses(Unauthenticated))
async def sign_out_everywhere(session: SessionDep, actor: ActorDep) -> Message:
    """End every session of one's own, this one too."""
    count = await sessions.end_all_own(session, actor)
    return Message(message=f"Signed out everywhere: {count} session(s) ended")


@auth.delete("/sessions/{session_id}", responses=responses(Unauthenticated, SessionNotFound))
async def end_session(session_id: PathUuid, session: SessionDep, actor: ActorDep) -> Message:
    """End one of one's own sessions."""
    await sessions.end_own(session, actor, session_id)
    return Message(message="Session ended successfully")


@keys.get("/.well-known/jwks.json")
async def get_jwks(resources: ResourcesDep, response: TaggedResponse) -> dict[str, Any]:
    """Publish the keys that access tokens are verified with (RFC 7517)."""
    published = await resources.keyring.public_keys()
    digest = hashlib.sha256(json.dumps(published, sort_keys=True).encode()).hexdigest()
    response.headers["ETag"] = f'"{digest[:32]}"'
    # Far less than a new key is published before it signs.
    response.headers["Cache-Control"] = "public, max-age=60"
    return published
