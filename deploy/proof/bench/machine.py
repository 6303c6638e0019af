"""Describes the machine of the measurements without its name."""

import os
import platform
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

_LIBRARIES = ("fastapi", "sqlalchemy", "asyncpg", "pydantic", "uvicorn", "uvloop", "aio-pika")


def describe() -> dict[str, Any]:
    """Return cores, processor, memory, and versions of system and libraries."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": _first(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo")) or platform.machine(),
        "memory_gib": round(int(_first(r"MemTotal:\s*(\d+)", Path("/proc/meminfo"))) / 2**20, 1),
        "load_before": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        **{name: version(name) for name in _LIBRARIES},
    }


def _first(pattern: str, file: Path) -> str:
    match = re.search(pattern, file.read_text())
    return match[1].strip() if match else ""
