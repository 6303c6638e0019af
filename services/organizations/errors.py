"""The errors that this service returns to clients."""

from shared.errors import Conflict, NotFound


class OrganizationNotFound(NotFound):
    """This organization does not exist, or you may not see it. Check the id."""


class EmailTaken(Conflict):
    """A user with the owner's e-mail address exists already. Use another address."""
