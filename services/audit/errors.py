"""Facts that a caller of this service may have to be told."""

from shared.errors import NotFound, ServiceUnavailable


class OrganizationNotFound(NotFound):
    """There is no such organization, or it is not yours to see."""


class SealsUnreachable(ServiceUnavailable):
    """The place of the seals does not answer; what was written cannot be compared with them."""
