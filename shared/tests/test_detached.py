"""Entities that no session has loaded."""

from decimal import Decimal

import pytest
from sqlalchemy import select

from shared.connections import fetch
from shared.detached import SelectedColumns, detached, values_of
from shared.tenancy import EVERYTHING
from shared.tests.conftest import ORIGIN
from shared.tests.sample import Thing
from shared.transactions import Transactions
from shared.writes import Writes

pytestmark = pytest.mark.anyio


async def test_a_detached_entity_equals_the_one_of_the_orm(transactions: Transactions) -> None:
    values = {"name": "first", "price": Decimal("399.99"), "details": {"a": [1]}}
    columns = SelectedColumns(Thing, "t", start=1)
    statement = f"SELECT 1, {columns.sql}, 2 FROM things t"
    async with transactions.begin(ORIGIN, EVERYTHING) as session:
        writes = Writes(session)
        writes.insert(Thing, values, action="CREATE")
        await writes.send()
        [row] = await fetch(session, statement)
        [loaded] = await session.scalars(select(Thing))
        assert values_of(columns.entity(row)) == values_of(loaded)
        [missing] = await fetch(
            session, f"SELECT 1, {columns.sql} FROM (SELECT) AS one LEFT JOIN things t ON false"
        )
    assert columns.optional_entity(missing) is None


def test_a_change_of_a_detached_entity_is_one_of_its_values() -> None:
    thing = detached(Thing, {"id": 1, "name": "first"})
    thing.name = "second"
    assert values_of(thing) == {"id": 1, "name": "second"}
