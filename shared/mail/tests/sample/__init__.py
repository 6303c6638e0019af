"""A small service for the tests of mail: its table, its templates and its languages."""

import asyncpg
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase

from shared.db import TYPES, metadata
from shared.mail.table import OutgoingMailColumns
from shared.tenancy import policy_statements
from shared.testing import Database

NAME = "sample"
PACKAGE = "shared.mail.tests.sample"


class Base(DeclarativeBase):
    """Root of the sample's tables."""

    metadata = metadata()
    type_annotation_map = TYPES


class OutgoingMail(OutgoingMailColumns, Base):
    """The sample's messages."""


async def create_schema(database: Database) -> None:
    """Create the table with row-level security, as a migration does."""
    engine = create_async_engine(database.owner_url.get_secret_value())
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    await engine.dispose()
    owner = await asyncpg.connect(
        str(database.owner_url.get_secret_value()).replace("+asyncpg", "")
    )
    try:
        for statement in policy_statements("outgoing_mails", user_column="user_id"):
            await owner.execute(statement)
    finally:
        await owner.close()
