"""One seed with few sagas and kills, in every run of the tests."""

import pytest

from sagas.store.store import Store
from tests.chaos import gaps
from tests.chaos.defects import DEFECTS
from tests.chaos.drills import DRILLS
from tests.chaos.plan import draw
from tests.chaos.planted import PLANTED
from tests.chaos.run import run_seed
from tests.chaos.system import servers


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_no_promise_is_broken_under_a_few_kills() -> None:
    with servers() as shared:
        outcome = run_seed(shared, draw(seed=1, sagas=30, kills=6))
    assert sum(outcome.states.values()) == 30 + 3  # three of them have a child
    assert not outcome.violations, "\n".join(map(str, outcome.violations))


def test_a_seed_gives_the_same_plan_again() -> None:
    assert draw(7, 50, 10) == draw(7, 50, 10) != draw(8, 50, 10)


def test_every_statement_of_the_store_is_a_gap_of_the_chaos_run_or_says_why_not() -> None:
    """Whoever adds a commit point arms it in `tests.chaos.gaps` (L68)."""
    armed = {"claim", "commit", *gaps.STATEMENTS}
    why_not = {
        "engine": "no statement",
        "start_many": "in the client's own process, as one transaction; reconcile finds what it did not publish",
        "waiting": "only reads",
        "outputs": "only reads",
        "live_claims_of": "only reads",
        "node_beat": "in the worker's main process, and killed with it: kills of `main` and `worker`",
        "pause": "a person's verb, in the process of the command line; reconcile finds what it did not publish",
        "mend": "a person's verb, the same",
        "renew": "only where a pool has threads; a kill ends the renewal with its step",
        "forget_connections": "asks nothing",
        "record_event": "in the caller's own transaction",
    }
    assert {name for name in vars(Store) if not name.startswith("_")} == armed | set(why_not)


def test_every_promise_has_a_defect_that_can_still_be_planted() -> None:
    for defect in DEFECTS:
        assert bool(defect.statements()) != defect.patched, defect.name
        assert defect.drill in DRILLS
    assert {defect.name for defect in DEFECTS if defect.patched} == set(PLANTED)
    checked = {"P12"}  # bad input is refused before there is anything to kill
    assert {defect.promise for defect in DEFECTS} == {f"P{number}" for number in range(1, 15)} - checked
