"""pgbench: the same statements without us, as fast as the server answers."""

import re
from collections.abc import Mapping, Sequence

from deploy.local.errors import StartError
from deploy.local.postgres import programs_folder
from deploy.proof.bench.environment import BenchDatabase, BenchEnvironment, word
from deploy.proof.bench.recording import Rewrite, Statement, script

CLIENTS = 10
"""As many as the service has connections."""


async def pgbench(
    environment: BenchEnvironment,
    database: BenchDatabase,
    recorded: Sequence[Statement],
    rewrite: Rewrite,
) -> dict[str, float]:
    """Run a recorded request's statements for a run's seconds, on the tested core.

    Raises StartError when one of them fails.
    """
    text, values = script(recorded, rewrite)
    file = environment.folder / f"pgbench-{word()}.sql"
    file.write_text(text)
    command = (
        *(str(programs_folder() / "pgbench"), "-n", "-M", "prepared", "-c", str(CLIENTS)),
        *("-j1", "-T", str(max(1, round(environment.scale.seconds))), "-f", str(file)),
        *_variables(values),
        database.url.get_secret_value(),
    )
    try:
        out = await environment.output(command, tested=True)
    finally:
        file.unlink()
    rate, latency = re.search(r"tps = ([\d.]+)", out), re.search(r"latency average = ([\d.]+)", out)
    if rate is None or latency is None:
        raise StartError("pgbench told no figures.", f"It said: {out}")
    return {"per_second": float(rate[1]), "mean_ms": float(latency[1])}


def _variables(values: Mapping[str, str]) -> list[str]:
    return [part for name, value in values.items() for part in ("-D", f"{name}={value}")]
