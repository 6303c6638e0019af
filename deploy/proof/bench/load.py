"""Load from wrk: several connections, each of which sends its next request at once."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from deploy.local.errors import StartError
from deploy.proof.bench.cores import cpu_seconds
from deploy.proof.bench.environment import BenchEnvironment, word
from deploy.proof.bench.programs import Programs

WARM_UP_SECONDS = 1

_SCRIPT = """
wrk.method = {method}
wrk.body = {body}
for name, value in pairs({headers}) do wrk.headers[name] = value end
function done(summary, latency, requests)
   local e = summary.errors
   io.write(string.format(
      '\\n@{{"requests":%d,"seconds":%f,"refused":%d,"broken":%d,"p50_ms":%f,"p99_ms":%f}}\\n',
      summary.requests, summary.duration / 1e6, e.status, e.connect + e.read + e.write + e.timeout,
      latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
"""


@dataclass(frozen=True)
class LoadRequest:
    """The request that every connection sends."""

    url: str
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str | None = None

    def script(self) -> str:
        """Return wrk's Lua script, which prints the summary as JSON behind an @."""
        headers = ", ".join(f"[{_lua(n)}] = {_lua(v)}" for n, v in self.headers.items())
        return _SCRIPT.format(
            method=_lua(self.method),
            body="nil" if self.body is None else _lua(self.body),
            headers=f"{{{headers}}}",
        )


async def load(
    environment: BenchEnvironment,
    tools: Programs,
    request: LoadRequest,
    *,
    connections: int,
    pid: int,
) -> dict[str, float]:
    """Send requests for the seconds of a run; return their rate, times, and CPU of process `pid`.

    Raises StartError if a response was not 2xx or a connection broke.
    """
    script = environment.folder / f"load-{word()}.lua"
    script.write_text(request.script())
    command = (
        tools.wrk,
        "-t1",
        "--timeout=20s",
        f"-c{connections}",
        "-s",
        str(script),
        request.url,
    )
    try:
        # This opens connections and warms up the code before the measurement.
        await _wrk(environment, tools, command, WARM_UP_SECONDS)
        before = cpu_seconds([pid])
        summary = await _wrk(environment, tools, command, max(1, round(environment.scale.seconds)))
        cpu = cpu_seconds([pid]) - before
    finally:
        script.unlink()
    if not summary["requests"]:
        logs = environment.folder / "logs"
        raise StartError(f"{request.url} answered no request.", f"Read {logs}.")
    return {
        "per_second": summary["requests"] / summary["seconds"],
        "p50_ms": summary["p50_ms"],
        "p99_ms": summary["p99_ms"],
        "cpu_us": cpu / summary["requests"] * 1e6,
    }


async def _wrk(
    environment: BenchEnvironment, tools: Programs, command: Sequence[str], seconds: int
) -> dict[str, float]:
    out = await environment.output((*command, f"-d{seconds}s"), variables=tools.variables)
    summary: dict[str, float] = json.loads(out.rpartition("@")[2])
    if summary["refused"] or summary["broken"]:
        raise StartError(f"Not every request succeeded: {summary}", f"The URL is {command[-1]}.")
    return summary


def _lua(text: str) -> str:
    # JSON and Lua escape ASCII text in the same way.
    return json.dumps(text)
