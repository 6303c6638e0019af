"""pgbench: sends a service's statements without the service, as fast as the server answers."""

import re
from collections.abc import Sequence

from deploy.local.errors import StartError
from deploy.local.postgres import programs_folder
from deploy.proof.bench.environment import BenchDatabase, BenchEnvironment, word
from deploy.proof.bench.recording import Rewrite, Statement, script

CLIENTS = 10
"""The number of the service's connections."""


async def pgbench(
    environment: BenchEnvironment,
    database: BenchDatabase,
    recorded: Sequence[Statement],
    rewrite: Rewrite,
) -> dict[str, float]:
    """Run a recorded request's statements for the seconds of a run, on the tested core.

    Raises StartError if a statement fails.
    """
    text, values = script(recorded, rewrite)
    file = environment.folder / f"pgbench-{word()}.sql"
    file.write_text(text)
    command = (
        *(str(programs_folder() / "pgbench"), "-n", "-M", "prepared", "-c", str(CLIENTS)),
        *("-j1", "-T", str(max(1, round(environment.scale.seconds))), "-f", str(file)),
        *(part for name, value in values.items() for part in ("-D", f"{name}={value}")),
        database.url.get_secret_value(),
    )
    try:
        out = await environment.output(command, tested=True)
    finally:
        file.unlink()
    rate, latency = re.search(r"tps = ([\d.]+)", out), re.search(r"latency average = ([\d.]+)", out)
    if rate is None or latency is None:
        raise StartError("pgbench printed no figures.", f"Its output was: {out}")
    return {"per_second": float(rate[1]), "mean_ms": float(latency[1])}
