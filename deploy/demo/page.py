"""The output of the demo."""

from typing import Any

from rich.console import Console
from rich.table import Table

WIDTH = 120
LONGEST_CHANGE = 48


class Page:
    """Prints the steps of the story."""

    def __init__(self) -> None:
        self.console = Console(highlight=False)
        # Each audit row is one line: a narrow window cuts it off instead of wrapping it.
        self.console.width = max(self.console.width, WIDTH)

    def step(self, number: int, title: str) -> None:
        """Print the title of a step."""
        self.console.print(f"\n[bold]{number}. {title}[/bold]")

    def exchange(self, request: str, answer: str) -> None:
        """Print a request and its answer."""
        self.console.print(f"   [green]✓[/green] {request}", markup=True)
        self.console.print(f"     {answer}", markup=False, soft_wrap=True)

    def failed(self, what: str) -> None:
        """Print why the story ended early."""
        self.console.print(f"   [red]✗ not as expected:[/red] {what}")

    def audit(self, rows: list[dict[str, Any]]) -> None:
        """Print the audit trail, oldest first."""
        table = Table(box=None, padding=(0, 1), header_style="bold", expand=True)
        for column in ("when", "action", "what", "who", "from"):
            table.add_column(column, no_wrap=True)
        # Only this column is cut off when long ids leave too little space.
        table.add_column("changes", no_wrap=True, ratio=1)
        for row in reversed(rows):
            who = "a visitor" if row["ip_address"] else "system"
            if row["user_id"]:
                who = f"user {row['user_id']}"
            old, new = row["old_values"] or {}, row["new_values"] or {}
            changes = ", ".join(f"{name}: {value} → {new.get(name)}" for name, value in old.items())
            if len(changes) > LONGEST_CHANGE:
                changes = f"{changes[: LONGEST_CHANGE - 1]}…"
            table.add_row(
                row["created_at"][11:19],
                row["action"],
                f"{row['entity_type']} {row['entity_id'] or ''}",
                who,
                row["ip_address"] or "",
                changes or f"{len(new)} values",
            )
        self.console.print(table)
