"""The conversion of the copied sessions and reservations, in version 2's database."""

from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine

from deploy.upgrade.run.plan import Plan
from deploy.upgrade.source import SESSION
from deploy.upgrade.targets import driver_url
from services.vouchers.version_one.conversion import convert
from shared.tenancy import EVERYTHING

STEP = "bookings"
TABLES = ("sessions", "reservations")
"""The tables that the conversion fills and whose indexes are built afterwards."""

_FINISH = text(
    "INSERT INTO upgrade_steps (step, last_id, finished_at) VALUES (:step, 0, now())"
    " ON CONFLICT (step) DO UPDATE SET finished_at = now()"
)


async def convert_copied(owner_url: str, plan: Plan) -> None:
    """Convert all copied rows and record that it is done, in one transaction."""
    # The name of the session lets a run that follows a killed one wait for its last statement.
    engine = create_async_engine(
        driver_url(owner_url).get_secret_value(), connect_args={"server_settings": dict(SESSION)}
    )
    try:
        async with engine.begin() as connection:
            await connection.run_sync(_convert, plan)
    finally:
        await engine.dispose()


def _convert(connection: Connection, plan: Plan) -> None:
    connection.execute(text(EVERYTHING.statement()))
    convert(connection, plan.began_at, in_place=False)
    connection.execute(_FINISH, {"step": STEP})
