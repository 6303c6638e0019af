"""What the reader of the demonstration sees."""

from typing import Any

from rich.console import Console
from rich.table import Table


class Page:
    """Prints the story, step by step."""

    def __init__(self) -> None:
        self.console = Console(highlight=False)

    def step(self, number: int, title: str) -> None:
        """Begin a step."""
        self.console.print(f"\n[bold]{number}. {title}[/bold]")

    def said(self, request: str, answer: str) -> None:
        """Print a request and what came back."""
        self.console.print(f"   [green]✓[/green] {request}", markup=True)
        self.console.print(f"     {answer}", markup=False)

    def failed(self, what: str) -> None:
        """Print why the story ended early."""
        self.console.print(f"   [red]✗ not as it should be:[/red] {what}")

    def audit(self, rows: list[dict[str, Any]]) -> None:
        """Print the audit trail, oldest first."""
        table = Table(box=None, padding=(0, 1), header_style="bold")
        for column in ("when", "action", "what", "who", "from", "changes"):
            table.add_column(column, overflow="fold")
        for row in reversed(rows):
            table.add_row(
                row["created_at"][11:19],
                row["action"],
                f"{row['entity_type']} {row['entity_id'] or ''}",
                str(row["user_id"] or "system"),
                row["ip_address"] or "",
                _changes(row),
            )
        self.console.print(table)


def _changes(row: dict[str, Any]) -> str:
    old, new = row["old_values"] or {}, row["new_values"] or {}
    if not old:
        return f"{len(new)} values" if len(new) > 3 else _pairs(new)
    return ", ".join(f"{name}: {old[name]} → {new.get(name)}" for name in old)[:80]


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in values.items())[:80]
