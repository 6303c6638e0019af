"""Alembic's entry."""

from services.payments.models import Base
from shared.migrations import run

run(Base.metadata)
