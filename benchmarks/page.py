"""`docs/performance.md`: the tables and plots between two marks; what is around them is written by hand."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.plots import draw
from benchmarks.report import tables

DOCS = Path("docs")
BEGIN, END = "<!-- begin: make bench -->", "<!-- end: make bench -->"
HEAD = f"# Performance\n\n{BEGIN}\n{END}\n"


def write(figures: dict[str, Any], docs: Path = DOCS) -> Path:
    """Write the page's part, `performance.json` beside it and the plots below it; the page."""
    page = docs / "performance.md"
    (docs / "performance.json").write_text(json.dumps(_rounded(figures), separators=(",", ":")) + "\n")
    parts = [_where(figures), *map(_markdown, tables(figures))]
    parts += [f"![{title}]({file.relative_to(docs)})" for title, file in draw(figures, docs / "performance")]
    before, begin, rest = (page.read_text() if page.exists() else HEAD).partition(BEGIN)
    after = rest.partition(END)[2] or "\n"
    page.write_text(f"{before}{begin or BEGIN}\n\n" + "\n\n".join(parts) + f"\n\n{END}{after}")
    return page


def _where(figures: dict[str, Any]) -> str:
    machine, options = figures["machine"], figures["options"]
    servers = ", ".join(f"{name} {value}" for name, value in machine["servers"].items())
    loads = [f"{machine[key][0]:.1f}" for key in ("load_before", "load_after") if key in machine]
    return (
        f"Written by `{figures['command']}` on {machine['when'][:10]}: {machine['cores']} cores ({machine['cpu']}), "
        f"load {' before and '.join(loads)}{' after' if len(loads) > 1 else ''}, Python {machine['python']}, "
        f"Celery {machine['celery']}, kombu {machine['kombu']}. {servers}. Every side: {options['concurrency']} "
        f"processes, prefetch {options['prefetch']}, acknowledged late, events {'on' if options['events'] else 'off'}."
    )


def _markdown(table: tuple[str, list[str], Iterable[list[str]]]) -> str:
    title, columns, rows = table
    head = [f"## {title}", "", f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    return "\n".join([*head, *(f"| {' | '.join(row)} |" for row in rows)])


def _rounded(value: Any) -> Any:
    """Figures as they are worth keeping."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list | tuple) else value
