"""The report of an upgrade: a summary in the terminal, and every changed row in a file."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from deploy.upgrade.run import plan as plans
from deploy.upgrade.run.summary import EXAMPLES, summarize
from deploy.upgrade.targets import Target, service_connections

_FINDINGS = "SELECT table_name, rule, id, detail FROM upgrade_findings ORDER BY 1, 2, 3"


async def write_report(target: Target, file: Path) -> None:
    """Write the summary, then one line for each row that was changed or set aside.

    The file contains JSON lines. It names e-mail addresses, so only its owner may read it.
    """
    async with service_connections(target) as targets:
        summary = await summarize(await plans.load_begun(targets["organizations"]), targets)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            out.write(json.dumps(summary, ensure_ascii=False) + "\n")
            for service in ("identity", "vouchers"):
                async with targets[service].transaction(readonly=True):
                    async for row in targets[service].cursor(_FINDINGS, prefetch=1000):
                        finding = {
                            "table": row["table_name"],
                            "id": row["id"],
                            "rule": row["rule"],
                            "detail": json.loads(row["detail"]),
                        }
                        out.write(json.dumps(finding, ensure_ascii=False) + "\n")


def show(summary: Mapping[str, Any], console: Console) -> None:
    """Print a summary."""
    rows = ", ".join(f"{count:,} {name}" for name, count in summary["rows"].items())
    console.print(f"Upgrade {summary['upgrade_id']} of {summary['source']}: {rows}")
    vouchers = ", ".join(f"{count:,} {name}" for name, count in summary["vouchers"].items())
    console.print(f"Vouchers: {vouchers or 'none'}")
    if not summary["changed"]:
        console.print("No row was changed or set aside.")
        return
    show_groups("Changed or set aside", summary["changed"], console)


def show_groups(title: str, groups: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Print groups of changed rows with their first ids."""
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1))
    for column in ("table", "rows", "what", "ids"):
        table.add_column(column, justify="right" if column == "rows" else "left", overflow="fold")
    for group in groups:
        ids = ", ".join(map(str, group["ids"])) + (" …" if group["rows"] > EXAMPLES else "")
        table.add_row(group["table_name"], f"{group['rows']:,}", group["meaning"], ids)
    console.print(table)
