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
"""The queues that receive these events: none is sent before all of the queues exist."""


class Created(TypedDict, total=False):
    """The user who will own the organization, if identity requested it."""

    owner_id: int


SHAPES: Shapes = {
    "organizations.organization.created.v1": new_row(Created),
    "organizations.request.denied.v1": denials.SHAPE,
}
