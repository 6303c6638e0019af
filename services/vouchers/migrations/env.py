"""Alembic's entry."""

from services.vouchers.models import Base
from shared.migrations import run

run(Base.metadata)
