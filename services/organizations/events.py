"""What this service publishes."""

from typing import TypedDict

from shared import denials
from shared.changes import Catalogue
from shared.shapes import Shapes, new_row

CATALOGUE: Catalogue = {
    ("organization", "CREATE"): "organizations.organization.created.v1",
    ("organization", "UPDATE"): "organizations.organization.updated.v1",
    ("organization", "DEACTIVATE"): "organizations.organization.deactivated.v1",
    ("request", "DENIED"): "organizations.request.denied.v1",
}

LISTENERS = (
    "audit.log",
    "identity.organizations",
    "payments.organizations",
    "vouchers.organizations",
)
"""The queues that take some of them: none leaves before all of these are there."""


class Created(TypedDict, total=False):
    """The user who waits for it, if identity asked for the organization."""

    owner_id: int


SHAPES: Shapes = {
    "organizations.organization.created.v1": new_row(Created),
    "organizations.request.denied.v1": denials.SHAPE,
}
