"""What this service publishes: that somebody looked, and that a month went to the archive."""

from shared.changes import Catalogue

CATALOGUE: Catalogue = {
    ("audit_log", "READ"): "audit.audit_log.read.v1",
    ("audit_log", "ARCHIVE"): "audit.audit_log.archived.v1",
}
