"""The checker: what must be nowhere, counted. Every check returns what is wrong, none is a guess.

Four witnesses are compared: what clients were told, the services' tables, the card gateway's own
books, and the trigger that saw every event at its commit (`recording`).
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from deploy.proof.chaos.client import History
from deploy.proof.chaos.platform import Platform

Wrong = Sequence[Any]


@dataclass(frozen=True)
class Evidence:
    """What the checks look at, once the system has come to rest."""

    platform: Platform
    history: History
    organizations: tuple[int, ...]
    """Ids of the organizations that sold."""

    async def rows(self, query: str, *arguments: Any) -> list[dict[str, Any]]:
        """Query the database as its administrator."""
        return await self.platform.rows(query, *arguments)


@dataclass(frozen=True)
class Check:
    """One thing that must not be: its name, and what finds it."""

    group: str
    name: str
    find: Callable[[Evidence], Awaitable[Wrong]]


@dataclass(frozen=True)
class Finding:
    """How often a thing that must not be was found, and the first of it."""

    check: Check
    wrong: int
    examples: tuple[str, ...]


async def run_checks(checks: Sequence[Check], evidence: Evidence) -> list[Finding]:
    """Run every check, also after one has found something."""
    findings = []
    for check in checks:
        wrong = await check.find(evidence)
        findings.append(Finding(check, len(wrong), tuple(str(one) for one in wrong[:5])))
    return findings


def query(group: str, name: str, text: str) -> Check:
    """Return a check whose query finds nothing in a healthy system."""

    async def find(evidence: Evidence) -> Wrong:
        return await evidence.rows(text)

    return Check(group, name, find)
