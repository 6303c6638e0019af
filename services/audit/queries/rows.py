"""What queries of audit rows have in common."""

from collections.abc import Mapping
from typing import Any

from services.audit.models import AuditLog

CHUNK = 1000
"""How many rows a stream holds in memory."""

COLUMNS = list(AuditLog.__table__.columns)

Row = Mapping[Any, Any]
