"""Reads the ends of log files."""

from pathlib import Path

LINES = 20


def last_line(log: Path) -> str:
    """Return the last line of a log that is not empty, or a dash."""
    return last_lines(log, 1)


def last_lines(log: Path, number: int = LINES) -> str:
    """Return the last lines of a log that are not empty, or a dash."""
    try:
        lines = [line for line in log.read_text(errors="replace").split("\n") if line.strip()]
    except OSError:
        lines = []
    return "\n".join(lines[-number:]) or "-"
