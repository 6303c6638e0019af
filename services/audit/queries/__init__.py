"""Every SELECT of this service, one module for each subject."""

from services.audit.queries.archives import (
    archive_files,
    archived_ranges,
    archives,
    count_archives,
    told_of_archive,
)
from services.audit.queries.audit_logs import page_of_rows, stream_rows
from services.audit.queries.chains import End, chains, end_of_chain, hash_at, heads, stream_chain
from services.audit.queries.partitions import (
    has_rows,
    list_partitions,
    pieces_of_partition,
    stream_partition,
)
from services.audit.queries.personal_values import committed_values, erased_users
from services.audit.queries.rows import Row

__all__ = [
    "End",
    "Row",
    "archive_files",
    "archived_ranges",
    "archives",
    "chains",
    "committed_values",
    "count_archives",
    "end_of_chain",
    "erased_users",
    "has_rows",
    "hash_at",
    "heads",
    "list_partitions",
    "page_of_rows",
    "pieces_of_partition",
    "stream_chain",
    "stream_partition",
    "stream_rows",
    "told_of_archive",
]
