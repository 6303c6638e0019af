"""Facts that a caller of this service may have to be told."""

from shared.errors import NotFound


class OrganizationNotFound(NotFound):
    """There is no such organization, or it is not yours to see."""
