"""One instance of a service: what its own statements cost, and what we add to them."""

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
from deploy.proof.bench.programs import Programs, programs
from deploy.proof.bench.protocol import Aim, Figures, Measurement, Run
from deploy.proof.bench.recording import Rewrite, Statement, logging_statements, statements
from deploy.proof.bench.vouchers_service import (
    CHARGED,
    VouchersService,
    fill_database,
    running_service,
)

CONNECTIONS = 16
VOUCHERS = 10_000
# No other value of a recorded request looks like it.
_FIRST_SOLD = 987_654_321
_NEW_CODES = (
    "(SELECT array_agg(upper(substr(md5(random()::text), 1, 8))) FROM generate_series(1, {number}))"
)
_LIST_OF_CODES = re.compile(r"\{[A-Z0-9]{8}(,[A-Z0-9]{8})*\}")


@asynccontextmanager
async def _open_runs(environment: BenchEnvironment) -> AsyncIterator[Mapping[str, Run]]:
    tools = programs(environment)
    database = await environment.database("vouchers")
    await fill_database(database, VOUCHERS)
    async with AsyncExitStack() as stack:
        others = await stack.enter_async_context(upstream(environment, tools, CHARGED))
        async with (
            logging_statements(database),
            running_service(environment, database, others) as recorded,
        ):
            kept = {
                name: await _record(environment, recorded, request)
                for name, request in _requests(recorded).items()
            }
        service = await stack.enter_async_context(running_service(environment, database, others))
        runs: dict[str, Run] = {}
        for name, request in _requests(service).items():
            runs[f"pgbench {name}"] = partial(pgbench, environment, database, kept[name], _REWRITE)
            runs[name] = partial(_serve, environment, tools, service, request)
        yield runs


def _requests(service: VouchersService) -> dict[str, LoadRequest]:
    return {
        "read one": service.read_one(VOUCHERS),
        "list 50": service.list_vouchers(),
        "purchase": service.purchase(),
    }


async def _serve(
    environment: BenchEnvironment, tools: Programs, service: VouchersService, request: LoadRequest
) -> Figures:
    return await load(environment, tools, request, connections=CONNECTIONS, pid=service.pid)


async def _record(
    environment: BenchEnvironment, service: VouchersService, request: LoadRequest
) -> list[Statement]:
    """Return the statements of one request, asked alone and after another one like it."""
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
    found = statements(log, offset)
    if not found:
        raise StartError("PostgreSQL logged no statement of ours.", f"Read {log}")
    return found


def _parameter(_: Statement, value: str) -> str | None:
    """Return what stands for a value that is another one at each purchase."""
    if value == str(_FIRST_SOLD):
        return ":sold_id"
    if _LIST_OF_CODES.fullmatch(value):
        return _NEW_CODES.format(number=value.count(",") + 1)
    return None


def _answers(statement: Statement) -> str | None:
    return "sold_" if statement.sql.startswith("INSERT INTO vouchers ") else None


_REWRITE = Rewrite(_parameter, _answers)

SERVICE = Measurement(
    name="service",
    title="One instance of a service",
    note="The vouchers service with 16 connections against pgbench running the statements that the "
    "server logged of one such request. PostgreSQL and the load are on the other cores. A purchase "
    "is two transactions, 12 codes and a call to payments, here nginx.",
    open_runs=_open_runs,
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
