"""Alembic's entry."""

from services.organizations.models import Base
from shared.migrations import run

run(Base.metadata)
