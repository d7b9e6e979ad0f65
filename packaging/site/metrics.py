"""The page of every metric, from the table that `/metrics` is made of."""

from __future__ import annotations

from writing import cell, escaped

from chargehand.console.metrics import METRICS

__all__ = ["metrics_page"]


def metrics_page() -> str:
    """Each metric with its kind, labels and meaning."""
    lines = [
        "# Every metric",
        "",
        "Made of the program itself. [Monitoring](../monitoring.md) has the rules for alerts and a dashboard. Each has",
        "the label `executor`, and those that are named here.",
        "",
        "| metric | kind | labels | |",
        "| --- | --- | --- | --- |",
    ]
    for name, (text, labels) in METRICS.items():
        kind = "counter" if name.endswith("_total") else "gauge"
        lines.append(f"| `{name}` | {kind} | {', '.join(f'`{one}`' for one in labels)} | {cell(escaped(text))} |")
    return "\n".join(lines) + "\n"
