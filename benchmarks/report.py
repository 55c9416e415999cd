"""The figures as tables: ratios to the bare chain of the same session."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.session import median_ratio
from tests.chaos.recovery import BUDGETS, MEANING, Times


def base_of(name: str) -> str:
    """The bare chain that a contender is compared with."""
    return "bare_failing" if name.endswith("_failing") else "bare"


def show(figures: dict[str, Any], console: Console) -> None:
    """Print all tables of what was measured."""
    for title, columns, rows in tables(figures):
        table = Table(title=title, title_justify="left")
        for number, column in enumerate(columns):
            table.add_column(column, justify="left" if number == 0 else "right")
        for row in rows:
            table.add_row(*row)
        console.print(table)


def tables(figures: dict[str, Any]) -> Iterable[tuple[str, list[str], list[list[str]]]]:
    """(title, columns, rows), one for each part that was run."""
    makers: dict[str, Callable[[dict[str, Any]], tuple[str, list[str], list[list[str]]]]] = {
        "throughput": _throughput,
        "latency": _latency,
        "counts": _counts,
        "growth": _growth,
        "starts": _starts,
        "history": _history,
        "recovery": _recovery,
        "simulation": _simulation,
        "upkeep": _upkeep,
    }
    return [maker(figures[part]) for part, maker in makers.items() if figures.get(part)]


def _throughput(runs: dict[str, Any]) -> tuple[str, list[str], list[list[str]]]:
    columns = ["throughput", "sagas/s", "least", "most", "ratio", "CPU ms a saga", "worker", "PostgreSQL", "broker"]
    columns += ["beside", "WAL flushes"]
    rows = []
    for name, found in runs.items():
        rates = _each(found, "rate")
        cpu = [run["cpu_ms"] for run in found]
        beside = [sum(ms for group, ms in one.items() if group not in ("worker", "postgres", "broker")) for one in cpu]
        flushes = [run["wal_flushes"] for run in found if "wal_flushes" in run]
        rows.append(
            [
                name,
                f"{statistics.median(rates):.0f}",
                f"{min(rates):.0f}",
                f"{max(rates):.0f}",
                _ratio(runs, name, "rate"),
                f"{statistics.median(_each(found, 'cpu_ms_total')):.2f}",
                *(f"{statistics.median(one[group] for one in cpu):.2f}" for group in ("worker", "postgres", "broker")),
                f"{statistics.median(beside):.2f}",
                f"{flushes[0]:.2f}" if flushes else "",
            ]
        )
    return "Throughput, from the release of the queue to the last end (medians; ratio: of each round)", columns, rows


def _latency(runs: dict[str, Any]) -> tuple[str, list[str], list[list[str]]]:
    rows = []
    for name, found in runs.items():
        p50, p95 = (f"{statistics.median(_each(found, key)):.1f}" for key in ("p50", "p95"))
        rows.append([name, p50, p95, _ratio(runs, name, "p50"), _ratio(runs, name, "p95")])
    pauses = sorted({run["pause"] for found in runs.values() for run in found})
    title = f"One saga at a time, {', '.join(f'{one:g}' for one in pauses)} s after the one before, milliseconds"
    return title, ["latency", "p50", "p95", "ratio p50", "ratio p95"], rows


def _counts(runs: dict[str, Any]) -> tuple[str, list[str], list[list[str]]]:
    columns = ["counted", "round trips: start", "worker", "transactions", "WAL flushes", "WAL bytes", "broker commands"]
    columns += ["broker bytes", "CPU ms"]
    rows = []
    for name, found in runs.items():
        trips = found["round_trips"]
        rows.append(
            [
                name,
                f"{sum(count for who, count in trips.items() if 'client' in who):.2f}",
                f"{sum(count for who, count in trips.items() if 'client' not in who):.2f}",
                f"{sum(found['transactions'].values()):.2f}",
                f"{found['wal_flushes']:.2f}",
                f"{found['wal_bytes']:.0f}",
                f"{found['broker_commands']:.1f}",
                f"{found['broker_bytes']:.0f}",
                f"{found['cpu_ms_total']:.1f}",
            ]
        )
    return "Counted for each saga, one at a time, its start included; worker and client alone", columns, rows


def _growth(runs: dict[str, Any]) -> tuple[str, list[str], list[list[str]]]:
    columns = [
        "growth",
        "steps",
        "ms a step",
        "ratio",
        "CPU ms a step",
        "ratio",
        "first message",
        "broker bytes a step",
    ]
    rows = []
    for name, sizes in runs.items():
        smallest = next(iter(sorted(sizes, key=int)))
        for size in sorted(sizes, key=int):
            time, cpu = (_per_step(sizes[size], key) for key in ("seconds", "cpu_ms_total"))
            time_0, cpu_0 = (_per_step(sizes[smallest], key) for key in ("seconds", "cpu_ms_total"))
            found = sizes[size]
            rows.append(
                [
                    name,
                    size,
                    f"{statistics.median(time):.3f}",
                    f"{median_ratio(time, time_0):.2f}",
                    f"{statistics.median(cpu):.3f}",
                    f"{median_ratio(cpu, cpu_0):.2f}",
                    f"{found[0]['message_bytes']}",
                    f"{statistics.median(run['broker_bytes'] / int(size) for run in found):.0f}",
                ]
            )
    return "Growth with the number of steps (ratio: to the smallest, of each round)", columns, rows


def _history(runs: dict[str, Any]) -> tuple[str, list[str], list[list[str]]]:
    rows = [
        [
            f"{int(size):,}",
            f"{statistics.median(_each(found, 'rate')):.0f}",
            f"{median_ratio(_each(found, 'rate'), _each(runs['0'], 'rate')):.2f}",
            f"{statistics.median(_each(found, 'cpu_ms_total')):.2f}",
        ]
        for size, found in runs.items()
    ]
    columns = ["finished sagas stored", "sagas/s", "ratio", "CPU ms a saga"]
    return "Throughput of ours with history (ratio: to none, of each round)", columns, rows


def _starts(runs: dict[str, Any]) -> tuple[str, list[str], list[list[str]]]:
    found = runs["start_many"]
    ours, least = _each(found, "start_many"), _each(found, "least")
    row = [f"{statistics.median(ours):.0f}", f"{statistics.median(least):.0f}", f"{median_ratio(ours, least):.2f}"]
    return "Starts a second from one process", ["start_many", "one INSERT and one LPUSH each", "ratio"], [row]


def _upkeep(found: dict[str, Any]) -> tuple[str, list[str], list[list[str]]]:
    groups = ("control", "beat", "postgres", "broker", "worker")
    rows = []
    for one in found["backlog"]:
        percent = [*(one["percent"][name] for name in groups), one["total"]]
        rows.append([f"{one['sagas']:,} sagas wait: % of one core", *(f"{part:.2f}" for part in percent)])
    if "relay" in found:
        rows.append(
            ["an event that one subscriber wants: ms of CPU", *[""] * len(groups), f"{found['relay']['median']:.2f}"]
        )
    return "Upkeep: reconcile beside a backlog that nobody takes; the relay", ["upkeep", *groups, "all"], rows


def _recovery(kinds: dict[str, Any]) -> tuple[str, list[str], list[list[str]]]:
    rows = []
    for kind, seconds in kinds.items():
        times = Times(kind, seconds)
        quantiles = [f"{times.quantile(share):.2f}" for share in (0.5, 0.95, 0.99)]
        rows.append([MEANING[kind], str(len(seconds)), *quantiles, f"{BUDGETS[kind]:g}"])
    return "Recovery, seconds, default settings", ["what", "times", "p50", "p95", "p99", "budget for p95"], rows


def _simulation(found: dict[str, Any]) -> tuple[str, list[str], list[list[str]]]:
    rows = [
        [
            f"{row['cores']}",
            f"{row['flush_ms']:g}",
            ", ".join(f"{workers}: {steps:,.0f}" for workers, steps in row["steps"].items()),
            f"{max(row['steps'].values()) / found['steps']:,.0f}",
        ]
        for row in found["table"]
    ]
    title = (
        f"Simulated: one PostgreSQL, {found['worker_ms']:.2f} ms of a worker and {found['postgres_ms']:.2f} ms of"
        f" PostgreSQL a step"
    )
    return title, ["cores", "flush ms", "worker processes: steps/s", f"sagas of {found['steps']} steps/s"], rows


def _per_step(runs: list[dict[str, Any]], key: str) -> list[float]:
    """Milliseconds; `seconds` is of all sagas, CPU is of one."""
    if key == "seconds":
        return [1000 * run["seconds"] / (run["sagas"] * run["steps"]) for run in runs]
    return [run[key] / run["steps"] for run in runs]


def _ratio(runs: dict[str, Any], name: str, key: str) -> str:
    base = runs.get(base_of(name))
    return "" if base is None else f"{median_ratio(_each(runs[name], key), _each(base, key)):.2f}"


def _each(runs: list[dict[str, Any]], key: str) -> list[float]:
    return [run[key] for run in runs]
