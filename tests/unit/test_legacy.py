"""The seed's US-3.2, US-5.2 and US-5.3 about the code itself: what must be small, and what must not be there.

Each test finds first what must be there, so that an empty file passes none of them.
"""

import ast
import re

import pytest

from tests.harness.processes import ROOT

ROOMS = ("sagas", "models", "tasks", "providers", "agent")
DISPATCHER, LIFECYCLE = ROOT / "tasks" / "dispatcher.py", ROOT / "tasks" / "lifecycle.py"
GONE = (
    "recently_provisioned",
    "provisioning_cooldown",
    "detect_and_cleanup_orphans",
    "emit_worker_heartbeat_missed",
    "emit_job_reassignment_required",
    "emit_worker_status_changed",
)
GONE_TESTS = (
    "test_provisioning_cooldown_prevents_duplicate",
    "test_orphan_detection_finds_orphans",
    "test_orphan_cleanup_success",
    "test_emit_worker_heartbeat_missed",
    "test_emit_job_reassignment_required",
)
UNIT = ("unit/test_*.py", "jobs_sagas/test_*.py", "agent/test_*.py", "providers/test_*.py", "cli/test_[mps]*.py")
"""One part alone, without a database: definitions, steps over ports, agent, providers, parts of the command line."""
INTEGRATION = ("store/**/test_*.py", "relay/test_*.py", "ways_in/test_*.py", "platform/test_*.py", "outages/test_*.py")
SAGAS = ("unit/test_*.py", "store/test_*.py", "jobs_sagas/test_*.py", "ways_in/test_*.py", "cli_saga/test_*.py")


def names(tree: ast.AST) -> set[str]:
    """Every name that code uses or gives: of functions, classes, variables, attributes, parameters."""
    found: set[str] = set()
    for node in ast.walk(tree):
        found |= {getattr(node, field) for field in ("name", "id", "attr", "arg") if hasattr(node, field)}
    return found


def test_nothing_of_the_manual_coordination_is_left() -> None:
    """US-5.2 criteria 1 to 4, US-4.2 criterion 3, US-5.1 criterion 2: in any room, by any owner."""
    found = set[str]()
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            found |= names(ast.parse(path.read_text()))
    assert found >= {"handle_no_available_workers", "run_reconciliation", "has_orphaned_workers", "record_step_event"}
    assert not found.intersection(GONE)
    assert not {name for name in found if isinstance(name, str) and "cooldown" in name.lower()}


def test_events_are_written_in_one_place() -> None:
    """US-5.1 criterion 1: one statement writes events; the platform's rooms reach it by `record_step_event` alone."""
    inserts = re.compile(r"insert\s*(into|\()\s*saga_events", re.IGNORECASE)
    calls = re.compile(r"\bsaga_(event|append)\(|\brecord_event\b")
    paths = [path for room in ROOMS for kind in ("*.py", "*.sql") for path in (ROOT / room).rglob(kind)]
    assert [path.name for path in paths if inserts.search(path.read_text())] == ["02_saga_append.sql"]
    assert {path.relative_to(ROOT).parts[0] for path in paths if calls.search(path.read_text())} == {"sagas"}


@pytest.mark.parametrize(
    ("path", "methods", "most"),
    [
        (DISPATCHER, {"assign_and_dispatch", "dispatch_once", "handle_no_available_workers"}, 500),
        (LIFECYCLE, {"provision_worker", "run_reconciliation", "cleanup_workers", "has_orphaned_workers"}, 700),
    ],
    ids=["dispatcher", "lifecycle"],
)
def test_they_are_small_and_undo_nothing_themselves(path, methods, most) -> None:
    """US-5.2: code_reduction_metrics_should_match_target; no_manual_rollback_logic: nothing is caught to be undone."""
    text = path.read_text()
    tree = ast.parse(text)
    assert methods <= names(tree)
    assert len([line for line in text.splitlines() if line.strip()]) < most
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler)]


def functions_of(*patterns: str) -> list[str]:
    """The names of the test functions of these files; one with parameters counts once."""
    paths = [path for pattern in patterns for path in (ROOT / "tests").glob(pattern)]
    return [name for path in paths for name in names(ast.parse(path.read_text())) if str(name).startswith("test_")]


def test_tests_of_what_is_gone_are_gone_and_there_are_enough_others() -> None:
    """US-5.3 criteria 2 and 3, and the seed's table: 200 unit and 80 integration tests, 160 of them of sagas."""
    assert not set(functions_of("**/test_*.py")).intersection(GONE_TESTS)
    assert len(functions_of(*UNIT)) >= 200
    assert len(functions_of(*INTEGRATION)) >= 80
    assert len(functions_of(*SAGAS)) >= 160
