"""Facts that a caller of this service may have to be told."""

from shared.errors import AppError, Conflict, NotFound, Unauthenticated


class UserNotFound(NotFound):
    """There is no such user, or it is not yours to see."""


class OrganizationNotFound(NotFound):
    """There is no such organization, or it is not yours to see."""


class PermissionNotGranted(NotFound):
    """The user was not granted this permission."""


class SessionNotFound(NotFound):
    """You have no such session."""


class EmailTaken(Conflict):
    """A user with this e-mail address exists already; use another address."""


class OwnerExists(Conflict):
    """The organization has an owner with another e-mail address."""


class AlreadyApproved(Conflict):
    """The user was approved before."""


class NotYetApproved(Conflict):
    """The user awaits approval: approve instead of activating."""


class LastOwner(Conflict):
    """The organization would be left without an active owner; name another one first."""


class LastAdministrator(Conflict):
    """The system would be left without an active administrator."""


class OwnAccount(Conflict):
    """You cannot remove, deactivate or change the role of your own account."""


class PermissionAlreadyGranted(Conflict):
    """The user holds this permission already."""


class RoleHoldsNoPermissions(Conflict):
    """Only staff and therapists are granted permissions: the role decides for everybody else."""


class OwnerNeedsOrganization(Conflict):
    """An owner needs an organization; give the user another role, or an organization."""


class PresentPasswordWrong(AppError):
    """Not authorized: this is not your present password."""

    status = 403
    denies = True


class InvalidCredentials(Unauthenticated):
    """The e-mail address or the password is wrong."""


class InvalidRefreshToken(Unauthenticated):
    """The refresh token is not valid any more: sign in again."""


class RegistrationClosed(AppError):
    """Not authorized: registration is closed; ask an administrator for an account."""

    status = 403
    denies = True


class AwaitingApproval(AppError):
    """Not authorized: your registration has not been approved yet."""

    status = 403


class AccountDeactivated(AppError):
    """Not authorized: your account has been deactivated."""

    status = 403


class OrganizationDeactivated(AppError):
    """Not authorized: your organization has been deactivated."""

    status = 403


class TooManyAttempts(AppError):
    """Too many attempts; wait before you try again."""

    status = 429
    denies = True

    def __init__(self, retry_after: int) -> None:
        super().__init__(headers={"Retry-After": str(retry_after)})
