"""What the pages behind links in messages send, and the change of one's own address."""

from services.identity.endpoints.dependencies import AnonymousWorkDep, ResourcesDep
from services.identity.errors import (
    EmailTaken,
    LinkEnded,
    LinkNotFound,
    PasswordQueueFull,
    PresentPasswordWrong,
    TooManyAttempts,
)
from services.identity.schemas.common import Message
from services.identity.schemas.sign_in import (
    AddressChange,
    InvitationAcceptance,
    LinkPassword,
    LinkUse,
    TypedAddress,
)
from services.identity.service import addresses, invitations, link_renewal, password_reset
from shared.auth import ActorDep
from shared.errors import Invalid, Unauthenticated, responses
from shared.routing import router
from shared.sessions import UnclaimedWorkDep

links = router(prefix="/api/auth", tags=["sign-in"], responses=responses(Invalid))


@links.post("/password-reset", status_code=202, responses=responses(TooManyAttempts))
async def request_password_reset(
    body: TypedAddress, work: AnonymousWorkDep, resources: ResourcesDep
) -> Message:
    """Send a link for a new password to the address, if an account has it.

    The answer is the same whether an account has it or not. Only the newest link is valid, for 30
    minutes and once.
    """
    await password_reset.request_reset(work, resources, body)
    return Message(message="If an account has this address, we have sent a link to it.")


@links.post(
    "/password-reset/confirm", responses=responses(LinkNotFound, LinkEnded, PasswordQueueFull)
)
async def reset_password(
    body: LinkPassword, work: AnonymousWorkDep, resources: ResourcesDep
) -> Message:
    """Set a new password with the token of a link; all sessions of the user end."""
    await password_reset.reset_password(work, resources, body)
    return Message(message="Password updated successfully")


@links.put(
    "/address",
    status_code=202,
    responses=responses(Unauthenticated, PresentPasswordWrong, TooManyAttempts, PasswordQueueFull),
)
async def change_address(
    body: AddressChange, work: UnclaimedWorkDep, actor: ActorDep, resources: ResourcesDep
) -> Message:
    """Change your own e-mail address: a link is sent to the new one.

    The present address stays until the link is opened, and then gets a message about it. The answer
    is the same if another account has the new address.
    """
    await addresses.request_change(work, actor, resources, body)
    return Message(message="We have sent a link to the new address. Open it to confirm the change.")


@links.post("/address/confirm", responses=responses(LinkNotFound, LinkEnded, EmailTaken))
async def confirm_address(body: LinkUse, work: AnonymousWorkDep) -> Message:
    """Confirm an e-mail address with the token of a link."""
    await addresses.confirm(work, body.token)
    return Message(message="Address confirmed successfully")


@links.post("/invitation/accept", responses=responses(LinkNotFound, LinkEnded, PasswordQueueFull))
async def accept_invitation(
    body: InvitationAcceptance, work: AnonymousWorkDep, resources: ResourcesDep
) -> Message:
    """Accept an invitation with the token of its link: choose a password, and a name if you like.

    It confirms your address. You can sign in afterwards.
    """
    await invitations.accept(work, resources, body)
    return Message(message="Invitation accepted successfully")


@links.post(
    "/links/renew", status_code=202, responses=responses(LinkNotFound, LinkEnded, TooManyAttempts)
)
async def renew_link(body: LinkUse, work: AnonymousWorkDep) -> Message:
    """Send a new link to the address of one that has expired.

    A link that was used, replaced or withdrawn is refused.
    """
    await link_renewal.renew(work, body.token)
    return Message(message="We have sent a new link to your address.")
