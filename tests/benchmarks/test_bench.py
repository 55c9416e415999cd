"""The benchmark itself, at its smallest: it runs, its rows are right, and its JSON says what was counted."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.processes import ROOT


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_bare_and_ours_are_measured(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    words = [
        "counts",
        "throughput",
        "latency",
        "--rounds",
        "1",
        "--sagas",
        "20",
        "--latencies",
        "5",
        "--only",
        "bare,ours",
    ]
    command = [sys.executable, "-m", "benchmarks", *words, "--json", str(file), "--directory", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    assert "ratio" in done.stdout

    figures = json.loads(file.read_text())
    assert figures["machine"]["servers"]["fsync"] == "on"
    assert set(figures["throughput"]) == {"bare", "ours"}
    for runs in figures["throughput"].values():
        assert [run["sagas"] for run in runs] == [20] and runs[0]["rate"] > 0
    assert figures["latency"]["ours"][0]["p50"] > 0
    counted = figures["counts"]
    assert counted["bare"]["round_trips"] == {} and counted["bare"]["wal_bytes"] == 0
    # A claim, then commit and next claim in one; a flush for the start and for each step.
    assert counted["ours"]["round_trips"] == {"client": 1, "worker": 5}
    assert 5 <= counted["ours"]["wal_flushes"] < 5.5
    assert list(tmp_path.iterdir()) == [file]  # the server's data are gone
