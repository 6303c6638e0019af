"""Checks: each counts violations of a rule, and none is a heuristic.

They compare four sources: the responses that clients received, the services' tables, the card
gateway's own records, and the events that a trigger recorded at their commit (`recording`).
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from deploy.proof.chaos.client import History
from deploy.proof.chaos.platform import Platform

Violations = Sequence[Any]


@dataclass(frozen=True)
class Evidence:
    """The data for the checks, after the system has come to rest."""

    platform: Platform
    history: History
    organizations: tuple[int, ...]
    """Ids of the organizations that sold."""

    async def rows(self, query: str, *arguments: Any) -> list[dict[str, Any]]:
        """Query the database as its administrator."""
        return await self.platform.rows(query, *arguments)


@dataclass(frozen=True)
class Check:
    """One kind of violation: its name, and the function that finds it."""

    group: str
    name: str
    find: Callable[[Evidence], Awaitable[Violations]]


@dataclass(frozen=True)
class Finding:
    """The number of violations of a check, and the first examples."""

    check: Check
    violations: int
    examples: tuple[str, ...]


async def run_checks(checks: Sequence[Check], evidence: Evidence) -> list[Finding]:
    """Run every check, also after one has found violations."""
    findings = []
    for check in checks:
        violations = await check.find(evidence)
        examples = tuple(str(each) for each in violations[:5])
        findings.append(Finding(check, len(violations), examples))
    return findings


def query(group: str, name: str, text: str) -> Check:
    """Return a check whose query finds nothing in a healthy system."""

    async def find(evidence: Evidence) -> Violations:
        return await evidence.rows(text)

    return Check(group, name, find)
