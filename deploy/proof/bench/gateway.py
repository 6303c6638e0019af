"""The gateway's hop: its cost for a request to a service, compared with nginx."""

import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from deploy.local.system import SERVICES
from deploy.proof.bench.environment import BenchEnvironment
from deploy.proof.bench.identities import Issuer
from deploy.proof.bench.load import LoadRequest, load
from deploy.proof.bench.nginx import proxy, upstream
from deploy.proof.bench.programs import programs
from deploy.proof.bench.protocol import Aim, Figures, Measurement, Run
from shared.broker_access import broker_url

CONNECTIONS = 32
PATH = "/api/vouchers/1"
_NOTHING_REVOKED: dict[str, Any] = {"revoked_sessions": [], "users": {}, "organizations": []}
_ENOUGH = "100000000/10 seconds"


@asynccontextmanager
async def open_gateway(environment: BenchEnvironment) -> AsyncIterator[Mapping[str, Run]]:
    tools, issuer = programs(environment), Issuer()
    answers = {PATH: {"id": 1, "notes": "n" * 1000}, "/internal/revocations": _NOTHING_REVOKED}
    headers = issuer.bearer(1, "client", 1)
    async with AsyncExitStack() as stack:
        target = await stack.enter_async_context(upstream(environment, tools, answers))
        nginx, nginx_pid = await stack.enter_async_context(proxy(environment, tools, target))
        ours, our_pid = await stack.enter_async_context(
            running_gateway(environment, issuer, target)
        )

        async def through_nginx() -> Figures:
            request = LoadRequest(nginx + PATH, headers=headers)
            return await load(environment, tools, request, connections=CONNECTIONS, pid=nginx_pid)

        async def through_gateway() -> Figures:
            request = LoadRequest(ours + PATH, headers=headers)
            return await load(environment, tools, request, connections=CONNECTIONS, pid=our_pid)

        yield {"nginx": through_nginx, "gateway": through_gateway}


@asynccontextmanager
async def running_gateway(
    environment: BenchEnvironment, issuer: Issuer, target: str
) -> AsyncIterator[tuple[str, int]]:
    port, operations = (
        environment.ports.choose("gateway"),
        environment.ports.choose("gateway operations"),
    )
    servers = await environment.servers()
    values = {
        **{f"{service.upper()}_URL": target for service in SERVICES},
        "RABBITMQ_URL": broker_url(f"{servers.rabbitmq_url}/", "gateway"),
        "PORT": str(port),
        "OPERATIONS_PORT": str(operations),
        "ADDRESS_LIMIT": _ENOUGH,
        "USER_LIMIT": _ENOUGH,
    }
    variables = {f"GATEWAY_{name}": value for name, value in values.items()}
    async with environment.process(
        "gateway",
        (sys.executable, "-m", "gateway.app"),
        {**issuer.settings("GATEWAY"), **variables},
        ready=f"http://127.0.0.1:{port}/health",
    ) as process:
        yield f"http://127.0.0.1:{port}", process.pid


GATEWAY = Measurement(
    name="gateway",
    title="The gateway's hop",
    note="GET of 1 KB over 32 connections; the gateway checks token, revocations and limits, nginx "
    "nothing. Each on the same core, wrk and the upstream (nginx) on the others.",
    open_runs=open_gateway,
    aims=(
        Aim(
            "gateway: requests/s, of nginx",
            of="gateway.per_second",
            against="nginx.per_second",
            solid=0.10,
            ambitious=0.25,
        ),
    ),
)
