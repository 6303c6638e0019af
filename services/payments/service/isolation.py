"""Background work on many items: the failure of one does not block the others."""

from collections.abc import Iterator
from contextlib import contextmanager

import structlog

log = structlog.get_logger(__name__)


@contextmanager
def isolated(kind: str, id_: int | str) -> Iterator[None]:
    """Log the failure of one item, so that it does not block the others."""
    try:
        yield
    except Exception as error:
        log.error("not_reconciled", kind=kind, id=id_, exc_info=error)
