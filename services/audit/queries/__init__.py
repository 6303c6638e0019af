"""Every SELECT of this service, one module for each subject."""

from services.audit.queries.archives import (
    archived_ranges,
    count_archives,
    find_archive_hashes,
    list_archives,
    recent_archives,
)
from services.audit.queries.audit_logs import page_of_rows, stream_rows
from services.audit.queries.chains import (
    LOCK_HEADS,
    end_of_chain,
    find_hash,
    list_chains,
    list_heads,
    lock_heads,
    stream_chain,
)
from services.audit.queries.partitions import (
    has_rows,
    list_partitions,
    pieces_of_partition,
    stream_partition,
)
from services.audit.queries.personal_values import committed_values, erased_users
from services.audit.queries.rows import Row

__all__ = [
    "LOCK_HEADS",
    "Row",
    "archived_ranges",
    "committed_values",
    "count_archives",
    "end_of_chain",
    "erased_users",
    "find_archive_hashes",
    "find_hash",
    "has_rows",
    "list_archives",
    "list_chains",
    "list_heads",
    "list_partitions",
    "lock_heads",
    "page_of_rows",
    "pieces_of_partition",
    "recent_archives",
    "stream_chain",
    "stream_partition",
    "stream_rows",
]
