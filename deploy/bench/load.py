"""Load from wrk: closed loop, some connections that each send the next request at once."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from deploy.bench.cores import cpu_seconds
from deploy.bench.ground import Ground, word
from deploy.bench.programs import Programs
from deploy.local.errors import StartError

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
class Request:
    """What every connection sends."""

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
    ground: Ground, tools: Programs, request: Request, *, connections: int, pid: int
) -> dict[str, float]:
    """Send requests for a run's seconds; return requests per second, times, CPU of process `pid`.

    Raises StartError when an answer was not 2xx or a connection broke.
    """
    script = ground.folder / f"load-{word()}.lua"
    script.write_text(request.script())
    seconds = max(1, round(ground.scale.seconds))
    command = (tools.wrk, "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script))
    try:
        before = cpu_seconds([pid])
        out = await ground.output((*command, request.url), environment=tools.environment)
        used = cpu_seconds([pid]) - before
    finally:
        script.unlink()
    found = json.loads(out.rpartition("@")[2])
    if found["refused"] or found["broken"] or not found["requests"]:
        raise StartError(f"{request.url} did not answer every request: {found}", "Read the logs.")
    return {
        "per_second": found["requests"] / found["seconds"],
        "p50_ms": found["p50_ms"],
        "p99_ms": found["p99_ms"],
        "cpu_us": used / found["requests"] * 1e6,
    }


def _lua(text: str) -> str:
    # JSON's escapes of ASCII text are Lua's.
    return json.dumps(text)
