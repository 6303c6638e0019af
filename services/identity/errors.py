"""The errors of this service. Their first line is the `detail` that clients read."""

from shared.errors import AppError, Conflict, NotFound, ServiceUnavailable, Unauthenticated


class UserNotFound(NotFound):
    """There is no such user, or it is not yours to see."""


class DependantNotFound(NotFound):
    """The user has no such dependant."""


class OrganizationNotFound(NotFound):
    """There is no such organization, or it is not yours to see."""


class PermissionNotGranted(NotFound):
    """The user was not granted this permission."""


class SessionNotFound(NotFound):
    """You have no such session."""


class EmailTaken(Conflict):
    """A user with this e-mail address exists already. Use another address."""


class OwnerExists(Conflict):
    """The organization has an owner with another e-mail address. Use that address."""


class AlreadyApproved(Conflict):
    """The user has been approved already."""


class NotYetApproved(Conflict):
    """The user awaits approval. Approve the user instead of activating the account."""


class InvitationPending(Conflict):
    """The user has not accepted the invitation yet. Send the invitation again instead."""


class NotInvited(Conflict):
    """The user has no open invitation. It was accepted, or the account was created without one."""


class LastOwner(Conflict):
    """The organization would have no active owner. Name another owner first."""


class LastAdministrator(Conflict):
    """The system would have no active administrator. Name another administrator first."""


class OwnAccount(Conflict):
    """You cannot remove, deactivate or change the role of your own account."""


class PermissionAlreadyGranted(Conflict):
    """The user has this permission already."""


class RoleHoldsNoPermissions(Conflict):
    """Only staff and therapists can be granted permissions. Change the user's role first."""


class OwnerNeedsOrganization(Conflict):
    """An owner needs an organization. Give the user another role, or an organization."""


class CannotBeGuardian(Conflict):
    """Only an active client of an organization can have dependants."""


class TooManyDependants(Conflict):
    """The user has 30 dependants, the most that are possible. Delete one first."""


class PresentPasswordWrong(AppError):
    """Not authorized. This is not your present password."""

    status = 403
    denies = True


class SecondFactorMissing(NotFound):
    """You have no second factor. Set one up first."""


class SecondFactorNotSet(NotFound):
    """The user has no second factor."""


class SecondFactorExists(Conflict):
    """You have a second factor already. Remove it before you set up another one."""


class CodeWrong(AppError):
    """Not authorized. This code is wrong or was used already. Wait for the next one."""

    status = 403
    denies = True


class SecondStepNeeded(AppError):
    """The password is right, and a second step is needed."""

    status = 403

    def __init__(self, token: str, seconds: int) -> None:
        super().__init__(headers={"Cache-Control": "no-store"})
        self.members = {"mfa_token": token, "expires_in": seconds}


class SecondFactorRequired(SecondStepNeeded):
    """The password is right. Send `mfa_token` and a code to /api/auth/login/second-factor."""


class SecondFactorSetupRequired(SecondStepNeeded):
    """The password is right, and you must set up a second factor first. Send `mfa_token` to
    /api/auth/login/second-factor/setup."""


class ChallengeNotValid(Unauthenticated):
    """This sign-in has expired or was completed already. Start with the password again."""


class SecondFactorWrong(Unauthenticated):
    """This code is wrong or was used already. Wait for the next one, or use a recovery code."""


class InvalidCredentials(Unauthenticated):
    """The e-mail address or the password is wrong, or the address has not been confirmed yet."""


class InvalidRefreshToken(Unauthenticated):
    """The refresh token is not valid any more. Sign in again."""


class LinkNotFound(NotFound):
    """This link is not valid. Open the whole link of the message, or request a new one."""


class LinkEnded(AppError):
    """This link is not valid any more. Request a new one."""

    status = 410


class LinkExpired(LinkEnded):
    """This link has expired. Request a new one."""


class LinkUsed(LinkEnded):
    """This link was used already. Sign in, or request a new one."""


class LinkReplaced(LinkEnded):
    """A newer link was sent. Open the one in the newest message."""


class LinkWithdrawn(LinkEnded):
    """This link was withdrawn. Ask the sender of the message for a new one."""


class RegistrationClosed(AppError):
    """Not authorized. Registration is closed. Ask an administrator for an account."""

    status = 403
    denies = True


class AwaitingApproval(AppError):
    """Not authorized. Your registration has not been approved yet."""

    status = 403


class AccountDeactivated(AppError):
    """Not authorized. Your account has been deactivated."""

    status = 403


class OrganizationDeactivated(AppError):
    """Not authorized. Your organization has been deactivated."""

    status = 403


class PasswordQueueFull(ServiceUnavailable):
    """There are too many sign-ins at once. Try again in a moment."""


class TooManyAttempts(AppError):
    """There were too many attempts. Wait before you try again."""

    status = 429
    denies = True

    def __init__(self, retry_after: int) -> None:
        super().__init__(headers={"Retry-After": str(retry_after)})
