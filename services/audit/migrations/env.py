"""Alembic's entry."""

from services.audit.models import Base
from shared.migrations import run

run(Base.metadata)
