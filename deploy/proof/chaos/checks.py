"""Checks: each counts violations of a rule, and none is a heuristic.

They compare four sources: the responses that clients received, the services' tables, the card
gateway's own records, and the events that a trigger recorded at their commit (`recording`).
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
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
class StateCheck:
    """One kind of violation: its name, and the function that finds it."""

    group: str
    name: str
    find: Callable[[Evidence], Awaitable[Violations]]


@dataclass(frozen=True)
class CheckResult:
    """The number of violations of a check, and the first examples."""

    check: StateCheck
    violations: int
    examples: tuple[str, ...]


async def run_checks(checks: Sequence[StateCheck], evidence: Evidence) -> list[CheckResult]:
    """Run every check, also after one has found violations."""
    results = []
    for check in checks:
        violations = await check.find(evidence)
        examples = tuple(str(each) for each in violations[:5])
        results.append(CheckResult(check, len(violations), examples))
    return results


def compare(answers: Iterable[Any], rows: Iterable[Any]) -> list[str]:
    """Return violations unless each id in responses is one of the rows, and the reverse, once."""
    counts, existing = Counter(answers), set(rows)
    return [
        *(f"{i}: in a response, but not stored" for i in counts.keys() - existing),
        *(f"{i}: stored, but in no response" for i in existing - counts.keys()),
        *(f"{i}: in {n} responses" for i, n in counts.items() if n > 1),
    ]


def query(group: str, name: str, text: str) -> StateCheck:
    """Return a check whose query finds nothing in a healthy system."""

    async def find(evidence: Evidence) -> Violations:
        return await evidence.rows(text)

    return StateCheck(group, name, find)
