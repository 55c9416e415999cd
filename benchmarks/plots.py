"""Pictures of the figures, as small SVG files. Needs matplotlib: the extra `bench`."""

from math import isfinite
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "hodei", "font.size": 9, "figure.figsize": (7, 3.2)})

from matplotlib import pyplot as plt  # noqa: E402 - after the choice of its back end

from tests.chaos.recovery import BUDGETS  # noqa: E402

QUANTILES = 100
"""Points of a line of a distribution."""


def draw(figures: dict[str, Any], directory: Path) -> list[tuple[str, Path]]:
    """(title, file) of each picture that the figures suffice for."""
    directory.mkdir(parents=True, exist_ok=True)
    makers = {
        "throughput": _throughput,
        "latency": _latency,
        "growth": _growth,
        "history": _history,
        "recovery": _recovery,
    }
    drawn = []
    for part, maker in makers.items():
        if figures.get(part):
            figure, axes = plt.subplots(layout="constrained")
            title = maker(axes, figures[part])
            axes.grid(alpha=0.3)
            file = directory / f"{part}.svg"
            figure.savefig(file, metadata={"Date": None})
            plt.close(figure)
            drawn.append((title, file))
    return drawn


def _throughput(axes: Any, runs: dict[str, Any]) -> str:
    names = list(runs)[::-1]
    axes.boxplot([[run["rate"] for run in runs[name]] for name in names], orientation="horizontal", whis=(0, 100))
    axes.set_yticks(range(1, len(names) + 1), names)
    axes.set_xlabel("sagas a second")
    axes.set_xlim(left=0)
    return "Throughput: each run of the session"


def _latency(axes: Any, runs: dict[str, Any]) -> str:
    for name, found in runs.items():
        taken = sorted(ms for run in found for ms in run["ms"])
        points = [number / QUANTILES for number in range(QUANTILES)]
        axes.plot([taken[int(point * len(taken))] for point in points], points, label=name, linewidth=1)
    axes.set_xscale("log")
    for axis in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        axis("{x:g}")
    axes.set_xlabel("milliseconds from the call to the last commit")
    axes.set_ylabel("part of the sagas")
    axes.legend(fontsize=7)
    return "Latency of one saga at a time: distribution"


def _growth(axes: Any, runs: dict[str, Any]) -> str:
    for name, sizes in runs.items():
        steps = sorted(map(int, sizes))
        each = [sorted(1000 * run["seconds"] / (run["sagas"] * run["steps"]) for run in sizes[str(n)]) for n in steps]
        axes.plot(steps, [times[len(times) // 2] for times in each], marker="o", label=name)
    axes.set_xscale("log", base=4)
    axes.set_xticks(steps, map(str, steps))
    axes.set_xlabel("steps of a saga")
    axes.set_ylabel("milliseconds a step")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=7)
    return "Cost of a step by the length of its saga"


def _history(axes: Any, runs: dict[str, Any]) -> str:
    sizes = sorted(map(int, runs))
    axes.boxplot([[run["rate"] for run in runs[str(size)]] for size in sizes], orientation="horizontal", whis=(0, 100))
    axes.set_yticks(range(1, len(sizes) + 1), [f"{size:,}" for size in sizes])
    axes.set_ylabel("finished sagas stored")
    axes.set_xlabel("sagas a second")
    axes.set_xlim(left=0)
    return "Throughput with history: each run of the session"


def _recovery(axes: Any, runs: dict[str, Any]) -> str:
    kinds = list(runs)[::-1]
    axes.boxplot([[s for s in runs[kind] if isfinite(s)] for kind in kinds], orientation="horizontal", whis=(5, 95))
    never = [sum(not isfinite(s) for s in runs[kind]) for kind in kinds]
    labels = [f"{kind} ({count} never)" if count else kind for kind, count in zip(kinds, never, strict=True)]
    axes.set_yticks(range(1, len(kinds) + 1), labels)
    axes.plot([BUDGETS[kind] for kind in kinds], range(1, len(kinds) + 1), "r|", markersize=14, label="budget")
    axes.set_xlabel("seconds (whiskers: the 5th and the 95th percentile)")
    axes.set_xlim(left=0)
    axes.legend(fontsize=7)
    return "Recovery: each kind's times and its budget"
