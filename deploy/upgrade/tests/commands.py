"""The `carnet` command as an operator runs it: a process of its own."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deploy.local.system import CHECKOUT

_PROGRAM = "from deploy.cli import app; app(prog_name='carnet')"
COMMAND = (sys.executable, "-c", _PROGRAM, "upgrade")


@dataclass(frozen=True)
class Ended:
    """What a command printed, and how it ended."""

    code: int | None
    out: str
    said: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


async def start(environment: Mapping[str, str], *arguments: str) -> Process:
    """Start `carnet upgrade …` in a process group of its own."""
    return await asyncio.create_subprocess_exec(
        *COMMAND,
        *arguments,
        cwd=CHECKOUT,
        env={**os.environ, **environment},
        stdout=PIPE,
        stderr=PIPE,
        start_new_session=True,
    )


async def carnet_upgrade(environment: Mapping[str, str], *arguments: str) -> Ended:
    """Run `carnet upgrade …` to its end."""
    process = await start(environment, *arguments)
    out, said = await process.communicate()
    return Ended(process.returncode, out.decode(), said.decode())
