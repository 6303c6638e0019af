"""What this service publishes: that somebody looked, and that a month went to the archive."""

from shared.changes import Catalogue

AUDIT_LOG_READ = "audit.audit_log.read.v1"
AUDIT_LOG_ARCHIVED = "audit.audit_log.archived.v1"

CATALOGUE: Catalogue = {
    ("audit_log", "READ"): AUDIT_LOG_READ,
    ("audit_log", "ARCHIVE"): AUDIT_LOG_ARCHIVED,
}
