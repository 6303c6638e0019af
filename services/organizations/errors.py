"""Facts that a caller of this service may have to be told."""

from shared.errors import Conflict, NotFound


class OrganizationNotFound(NotFound):
    """There is no such organization, or it is not yours to see."""


class EmailTaken(Conflict):
    """A user with the owner's e-mail address exists already; use another address."""
