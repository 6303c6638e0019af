"""What this service publishes."""

from shared.changes import Catalogue

CATALOGUE: Catalogue = {
    ("organization", "CREATE"): "organizations.organization.created.v1",
    ("organization", "UPDATE"): "organizations.organization.updated.v1",
    ("organization", "DEACTIVATE"): "organizations.organization.deactivated.v1",
}
