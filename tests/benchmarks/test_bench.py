"""The benchmark itself, at its smallest: it runs, its rows are right, and its JSON says what was counted."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.simulation import NETWORK, Costs, steps_a_second
from tests.harness.processes import ROOT


def measured(directory: Path, *words: str) -> dict[str, Any]:
    """The figures of one session."""
    file = directory / "figures.json"
    command = [sys.executable, "-m", "benchmarks", *words, "--json", str(file), "--directory", str(directory)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    assert "ratio" in done.stdout
    assert list(directory.iterdir()) == [file]  # the server's data are gone
    figures: dict[str, Any] = json.loads(file.read_text())
    return figures


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_bare_and_ours_are_measured(tmp_path: Path) -> None:
    parts = ["counts", "throughput", "latency", "starts", "simulation"]
    sizes = ["--rounds", "1", "--sagas", "20", "--latencies", "5"]
    figures = measured(tmp_path, *parts, *sizes, "--only", "bare,ours")
    assert figures["machine"]["servers"]["fsync"] == "on"
    assert set(figures["throughput"]) == {"bare", "ours"}
    for runs in figures["throughput"].values():
        assert [run["sagas"] for run in runs] == [20] and runs[0]["rate"] > 0
    assert figures["latency"]["ours"][0]["p50"] > 0
    assert figures["starts"]["start_many"][0]["start_many"] > 0
    assert figures["simulation"]["steps"] == 4 and figures["simulation"]["postgres_ms"] > 0
    counted = figures["counts"]
    # PostgreSQL itself writes some 50 bytes now and then (what runs, for standbys).
    assert counted["bare"]["round_trips"] == {} and counted["bare"]["wal_bytes"] < 50
    # A claim, then commit and next claim in one; a flush for the start and for each step.
    assert counted["ours"]["round_trips"] == {"client": 1, "worker": 5}
    assert 5 <= counted["ours"]["wal_flushes"] < 5.5


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_growth_history_and_upkeep_are_measured(tmp_path: Path) -> None:
    """More wait than have messages of their own."""
    sizes = ["--steps", "4,8", "--growth-steps", "32", "--history", "1000", "--backlogs", "200"]
    figures = measured(
        tmp_path, "growth", "history", "upkeep", "--rounds", "1", "--sagas", "20", *sizes, "--only", "ours"
    )
    assert {size: [run["sagas"] for run in runs] for size, runs in figures["growth"]["ours"].items()} == {
        "4": [8],
        "8": [4],
    }
    assert {size: [run["sagas"] for run in runs] for size, runs in figures["history"].items()} == {
        "0": [20],
        "1000": [20],
    }
    (backlog,) = figures["upkeep"]["backlog"]
    assert (backlog["sagas"], backlog["messages"] < 200) == (200, True)


def test_the_simulation_is_right_where_arithmetic_is() -> None:
    """One worker: the sum of its times. Many: as fast as PostgreSQL's cores, or as shared flushes let them."""
    costs = Costs(worker=0.001, postgres=0.0005)
    alone = steps_a_second(costs, cores=4, workers=1, flush=0.001, seconds=60)
    assert alone == pytest.approx(1 / (0.001 + 0.0005 + 0.001 + NETWORK), rel=0.05)
    assert steps_a_second(costs, cores=2, workers=64, flush=0.0002, seconds=20) == pytest.approx(4000, rel=0.05)
    # Whoever comes while one flush runs takes the next: each step waits for one to two of them.
    slow = steps_a_second(costs, cores=64, workers=200, flush=0.1, seconds=20)
    assert 200 / 0.2 * 0.9 < slow < 200 / 0.1
