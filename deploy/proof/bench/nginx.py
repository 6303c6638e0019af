"""nginx as a proxy for comparison, and as an upstream that needs almost no CPU."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from deploy.proof.bench.environment import BenchEnvironment, BenchProcess
from deploy.proof.bench.programs import Programs

_CONFIGURATION = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr error;
worker_rlimit_nofile 4096;
events {{ worker_connections 1024; }}
http {{
  access_log {access_log};
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  default_type application/json;
  keepalive_requests 1000000000; keepalive_timeout 75s;
{http}
  server {{ listen 127.0.0.1:{port} backlog=1024; {server} }}
}}
"""


@asynccontextmanager
async def _nginx(
    environment: BenchEnvironment,
    tools: Programs,
    name: str,
    port: int,
    *,
    tested: bool,
    **parts: str,
) -> AsyncIterator[BenchProcess]:
    folder = environment.folder / name
    folder.mkdir(parents=True, exist_ok=True)
    parts = {"http": "", "access_log": "off", **parts}
    file = folder / "nginx.conf"
    file.write_text(_CONFIGURATION.format(folder=folder, port=port, **parts))
    command = (tools.nginx, "-p", str(folder), "-c", str(file))
    async with environment.process(
        name,
        command,
        tools.variables,
        tested=tested,
        ready=f"http://127.0.0.1:{port}/health",
    ) as process:
        yield process


@asynccontextmanager
async def upstream(
    environment: BenchEnvironment, tools: Programs, answers: Mapping[str, Any]
) -> AsyncIterator[str]:
    """Run a server with one JSON response for each path; yield its address."""
    port = environment.ports.choose("upstream")
    bodies = {"/health": {}, **answers}
    server = " ".join(
        f"location = {path} {{ return 200 '{json.dumps(body)}'; }}" for path, body in bodies.items()
    )
    async with _nginx(environment, tools, "upstream", port, tested=False, server=server):
        yield f"http://127.0.0.1:{port}"


@asynccontextmanager
async def proxy(
    environment: BenchEnvironment, tools: Programs, target: str
) -> AsyncIterator[tuple[str, int]]:
    """Run a proxy on the tested core; yield its address and its process id."""
    port = environment.ports.choose("proxy")
    host = target.removeprefix("http://")
    log = environment.folder / "proxy" / "access.log"
    async with _nginx(
        environment,
        tools,
        "proxy",
        port,
        tested=True,
        # The gateway also writes a line for each request, several lines at a time.
        access_log=f"{log} combined buffer=64k flush=1s",
        http=f"upstream target {{ server {host}; keepalive 64; keepalive_requests 1000000000; }}",
        server="location / { proxy_pass http://target; proxy_http_version 1.1;"
        ' proxy_set_header Connection ""; proxy_buffering on; }',
    ) as process:
        yield f"http://127.0.0.1:{port}", process.pid
    log.unlink(missing_ok=True)
