"""Exports as HTTP responses."""

from collections.abc import AsyncIterator
from typing import Any

from fastapi.responses import StreamingResponse

from services.audit.schemas import ExportFormat
from shared import csv_files

_MEDIA_TYPES = {
    ExportFormat.CSV: csv_files.MEDIA_TYPE,
    ExportFormat.NDJSON: "application/x-ndjson",
}
EXPORT_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Every row that the filters let through, newest first.",
        "content": {media.partition(";")[0]: {} for media in _MEDIA_TYPES.values()},
    }
}
"""How OpenAPI describes an export."""


def download_of(pieces: AsyncIterator[bytes], form: ExportFormat) -> StreamingResponse:
    """Return a response that sends an export, as a file to save."""
    headers = {"Content-Disposition": f'attachment; filename="audit-logs.{form}"'}
    return StreamingResponse(pieces, media_type=_MEDIA_TYPES[form], headers=headers)
