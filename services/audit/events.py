"""What this service publishes: that the trail was read, and that a month was archived."""

from typing import Any, TypedDict

from shared import denials
from shared.changes import Catalogue
from shared.shapes import Shapes, fact

CATALOGUE: Catalogue = {
    ("audit_log", "READ"): "audit.audit_log.read.v1",
    ("audit_log", "ARCHIVE"): "audit.audit_log.archived.v1",
    ("request", "DENIED"): "audit.request.denied.v1",
}

QUEUE_NAME = "audit.log"
"""The queue of this service, which takes every event of every service."""

LISTENERS = (QUEUE_NAME,)
"""The queues that receive these events: none is sent before all of the queues exist."""


class TrailRead(TypedDict):
    """How the trail was read, and with which filters."""

    how: str
    filters: dict[str, Any]


class Archived(TypedDict):
    """The file of a month, and the hashes that make it a part of the trail (hexadecimal)."""

    month: str
    file: str
    sha256: str
    rows: int
    pieces_sha256: str


SHAPES: Shapes = {
    "audit.audit_log.read.v1": fact(TrailRead),
    "audit.audit_log.archived.v1": fact(Archived),
    "audit.request.denied.v1": denials.SHAPE,
}
