import pytest

from services.vouchers.models import Base
from shared.migrations import drift
from shared.testing import Database

pytestmark = pytest.mark.anyio


async def test_migrations_and_models_agree(database: Database) -> None:
    assert await drift(database.owner_url, Base.metadata) == []
