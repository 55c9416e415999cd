"""US-2.3: `hodei flags` and `hodei shadow report`, run as a user runs them."""

import json
import uuid

import pytest

from sagas import SagaType
from tests.platform.test_commands import Hodei, hodei, one_line

__all__ = ["hodei"]  # a fixture


def test_a_flag_is_set_and_listed(hodei: Hodei, query) -> None:
    """The issue: `hodei flags set provisioning --enabled --percent 25`."""
    done = hodei("flags", "set", "provisioning", "--enabled", "--percent", "25")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1].split() == ["provisioning", "yes", "25", "no"]
    done = hodei(
        "flags", "set", "EXECUTION", "--disabled", "--shadow", "--actor", "ann", "--reason", "canary", "--json"
    )
    assert json.loads(done.stdout)["enabled"] is False
    listed = {flag["saga"]: flag for flag in json.loads(hodei("flags", "list", "--json").stdout)}
    assert list(listed) == list(SagaType)
    assert (listed["provisioning"]["percent"], listed["recovery"]["percent"]) == (25, 100)
    assert [listed["execution"][name] for name in ("enabled", "shadow", "actor", "reason")] == [
        False,
        True,
        "ann",
        "canary",
    ]
    assert listed["execution"]["changed_at"] is not None
    assert "as it comes" in hodei("flags", "list").stdout
    actors = [row["actor"] for row in query("SELECT actor FROM saga_events ORDER BY event_id")]
    assert actors == ["cli", "ann"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("provisioning", "--percent", "101"), "101 is no percentage"),
        (("recovery", "--shadow"), "recovery has no shadow"),
        (("provisioning",), "nothing to change"),
    ],
)
def test_what_no_flag_can_be_is_one_line(hodei: Hodei, query, words, told) -> None:
    done = hodei("flags", "set", *words)
    assert done.returncode == 2 and told in one_line(done)
    assert query("SELECT * FROM feature_flags") == []


def test_an_unknown_saga_is_refused_with_those_there_are(hodei: Hodei) -> None:
    done = hodei("flags", "set", "order", "--enabled")
    assert done.returncode == 2 and "'provisioning', 'execution', 'recovery'" in done.stderr


def test_the_report_counts_by_percentage_and_shows_the_differences(hodei: Hodei, records) -> None:
    """A rise from one stage to the next is seen from line to line."""
    with records() as r:
        for percent, failures in ((1, 0), (25, 1), (75, 3)):
            for number in range(4):
                run_id = uuid.uuid4()
                problem = "it broke" if number < failures else None
                r.shadows.begin(run_id, SagaType.EXECUTION, f"job {number}", percent, None, problem)
                r.shadows.did(run_id, [], None if problem else "no slot", ended=True)
        r.shadows.begin(uuid.uuid4(), SagaType.PROVISIONING, "goes on", 25, uuid.uuid4())
        for one, saga in r.shadows.take():
            r.shadows.compare(one, saga)
    told = json.loads(hodei("shadow", "report", "--json", "--limit", "100").stdout)
    of = [(one["percent"], one["begun"], one["different"], one["rate"]) for one in told["totals"][:3]]
    assert of == [(1, 4, 0, 0.0), (25, 4, 1, 0.25), (75, 4, 3, 0.75)]
    assert told["totals"][3]["rate"] is None, "nothing is compared yet"
    assert [one["differences"]["saga_error"] for one in told["differences"]] == ["it broke"] * 4
    lines = hodei("shadow", "report").stdout.splitlines()
    assert [line.split()[:6] for line in lines[1:4]] == [
        ["execution", "1", "4", "4", "0", "0.0%"],
        ["execution", "25", "4", "4", "1", "25.0%"],
        ["execution", "75", "4", "4", "3", "75.0%"],
    ]
    assert "saga_error: it broke" in lines[-1]
    only = json.loads(hodei("shadow", "report", "--saga", "provisioning", "--json").stdout)
    assert [one["saga_type"] for one in only["totals"]] == ["provisioning"] and only["differences"] == []
