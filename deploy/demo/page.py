"""What the reader of the demonstration sees."""

from typing import Any

from rich.console import Console
from rich.table import Table

WIDTH = 120
LONGEST_CHANGE = 48


class Page:
    """Prints the story, step by step."""

    def __init__(self) -> None:
        self.console = Console(highlight=False)
        # The trail is one line a change: better cut off by a narrow window than folded.
        self.console.width = max(self.console.width, WIDTH)

    def step(self, number: int, title: str) -> None:
        """Begin a step."""
        self.console.print(f"\n[bold]{number}. {title}[/bold]")

    def said(self, request: str, answer: str) -> None:
        """Print a request and what came back."""
        self.console.print(f"   [green]✓[/green] {request}", markup=True)
        self.console.print(f"     {answer}", markup=False, soft_wrap=True)

    def failed(self, what: str) -> None:
        """Print why the story ended early."""
        self.console.print(f"   [red]✗ not as it should be:[/red] {what}")

    def audit(self, rows: list[dict[str, Any]]) -> None:
        """Print the audit trail, oldest first."""
        table = Table(box=None, padding=(0, 1), header_style="bold", expand=True)
        for column in ("when", "action", "what", "who", "from"):
            table.add_column(column, no_wrap=True)
        # Only this column is cut off when long ids leave too little room for everything.
        table.add_column("changes", no_wrap=True, ratio=1)
        for row in reversed(rows):
            table.add_row(
                row["created_at"][11:19],
                row["action"],
                f"{row['entity_type']} {row['entity_id'] or ''}",
                _who(row),
                row["ip_address"] or "",
                _changes(row),
            )
        self.console.print(table)


def _who(row: dict[str, Any]) -> str:
    if row["user_id"]:
        return f"user {row['user_id']}"
    return "a visitor" if row["ip_address"] else "system"


def _changes(row: dict[str, Any]) -> str:
    old, new = row["old_values"] or {}, row["new_values"] or {}
    if not old:
        return f"{len(new)} values"
    told = ", ".join(f"{name}: {value} → {new.get(name)}" for name, value in old.items())
    return told if len(told) <= LONGEST_CHANGE else f"{told[: LONGEST_CHANGE - 1]}…"
