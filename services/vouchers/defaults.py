"""The voucher types that the default organization starts with, here and after an upgrade alike."""

from decimal import Decimal
from typing import Any

from services.vouchers.models import Frequency

DEFAULT_VOUCHER_TYPES: tuple[dict[str, Any], ...] = (
    {
        "name": "Standard Individual Therapy",
        "total_sessions": 10,
        "backup_sessions": 2,
        "session_duration_minutes": 60,
        "max_clients_per_session": 1,
        "frequency": Frequency.WEEKLY.value,
        "price": Decimal("399.99"),
        "validity_days": 365,
    },
    {
        "name": "Group Therapy Package",
        "total_sessions": 8,
        "backup_sessions": 2,
        "session_duration_minutes": 90,
        "max_clients_per_session": 8,
        "frequency": Frequency.WEEKLY.value,
        "price": Decimal("199.99"),
        "validity_days": 365,
    },
    {
        "name": "Intensive Daily Sessions",
        "total_sessions": 20,
        "backup_sessions": 4,
        "session_duration_minutes": 45,
        "max_clients_per_session": 1,
        "frequency": Frequency.DAILY.value,
        "price": Decimal("799.99"),
        "validity_days": 365,
    },
)
