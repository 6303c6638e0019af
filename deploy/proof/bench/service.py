"""One instance of a service: the cost of its statements, and the cost of its own code."""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import httpx

from deploy.local.errors import StartError
from deploy.proof.bench.environment import BenchEnvironment
from deploy.proof.bench.load import LoadRequest, load
from deploy.proof.bench.nginx import upstream
from deploy.proof.bench.pgbench import pgbench
from deploy.proof.bench.programs import programs
from deploy.proof.bench.protocol import Aim, Measurement, Run
from deploy.proof.bench.recording import Rewrite, Statement, logging_statements, statements
from deploy.proof.bench.vouchers_service import (
    CHARGED,
    VouchersService,
    fill_database,
    running_service,
)

CONNECTIONS = 16
VOUCHERS = 10_000
# No other value of a recorded request equals this one.
_FIRST_SOLD = 987_654_321
_NEW_CODES = (
    "(SELECT array_agg(upper(substr(md5(random()::text), 1, 8))) FROM generate_series(1, {number}))"
)
_LIST_OF_CODES = re.compile(r"\{[A-Z0-9]{8}(,[A-Z0-9]{8})*\}")


@asynccontextmanager
async def open_service(environment: BenchEnvironment) -> AsyncIterator[Mapping[str, Run]]:
    tools = programs(environment)
    database = await environment.database("vouchers")
    await fill_database(database, VOUCHERS)
    async with AsyncExitStack() as stack:
        others = await stack.enter_async_context(upstream(environment, tools, CHARGED))
        async with (
            logging_statements(database),
            running_service(environment, database, others) as service,
        ):
            recordings = {
                name: await _record(environment, service, request)
                for name, request in _requests(service).items()
            }
        service = await stack.enter_async_context(running_service(environment, database, others))
        runs: dict[str, Run] = {}
        for name, request in _requests(service).items():
            recording = recordings[name]
            runs[f"pgbench {name}"] = partial(pgbench, environment, database, recording, _REWRITE)
            runs[name] = partial(
                load, environment, tools, request, connections=CONNECTIONS, pid=service.pid
            )
        yield runs


def _requests(service: VouchersService) -> dict[str, LoadRequest]:
    return {
        "read one": service.read_one(VOUCHERS),
        "list 50": service.list_vouchers(),
        "purchase": service.purchase(),
    }


async def _record(
    environment: BenchEnvironment, service: VouchersService, request: LoadRequest
) -> list[Statement]:
    """Send a request twice, without other load; return the statements of the second one."""
    log = environment.folder / "servers" / "logs" / "postgres.log"
    async with service.database.admin() as admin:
        await admin.execute(f"SELECT setval('vouchers_id_seq', {_FIRST_SOLD - 2})")
    async with httpx.AsyncClient(timeout=10) as client:
        offset = 0
        for _ in range(2):
            offset = log.stat().st_size
            answer = await client.request(
                request.method, request.url, headers=dict(request.headers), content=request.body
            )
            if not answer.is_success:
                raise StartError(f"{request.url} answered {answer.status_code}.", answer.text)
    recording = statements(log, offset)
    if not recording:
        raise StartError("PostgreSQL logged no statement of the service.", f"Read {log}.")
    return recording


def _parameter(_: Statement, value: str) -> str | None:
    """Return the expression for a value that each purchase must have anew."""
    if value == str(_FIRST_SOLD):
        return ":sold_id"
    if _LIST_OF_CODES.fullmatch(value):
        return _NEW_CODES.format(number=value.count(",") + 1)
    return None


_REWRITE = Rewrite(
    _parameter, lambda each: "sold_" if each.sql.startswith("INSERT INTO vouchers ") else None
)

SERVICE = Measurement(
    name="service",
    title="One instance of a service",
    note="The vouchers service with 16 connections against pgbench running the statements that the "
    "server logged of one such request. PostgreSQL and the load are on the other cores. A purchase "
    "is two transactions, 12 codes and a call to payments, here nginx.",
    open_runs=open_service,
    aims=tuple(
        Aim(
            f"{name}: requests/s, of pgbench with the same SQL",
            of=f"{name}.per_second",
            against=f"pgbench {name}.per_second",
            solid=solid,
            ambitious=ambitious,
        )
        for name, solid, ambitious in (
            ("read one", 0.06, 0.14),
            ("list 50", 0.11, 0.30),
            ("purchase", 0.40, 0.65),
        )
    ),
)
