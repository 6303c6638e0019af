"""The errors that this service returns to clients."""

from shared.errors import NotFound, ServiceUnavailable


class OrganizationNotFound(NotFound):
    """This organization does not exist, or you may not see it. Check the id."""


class SealsUnreachable(ServiceUnavailable):
    """The store of the seals does not answer. Repeat the request later."""
