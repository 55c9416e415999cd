"""One seed with few sagas and kills, in every run of the tests."""

import pytest

from tests.chaos.plan import draw
from tests.chaos.run import run_seed
from tests.chaos.system import servers


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_no_promise_is_broken_under_a_few_kills() -> None:
    with servers() as shared:
        outcome = run_seed(shared, draw(seed=1, sagas=30, kills=6))
    assert sum(outcome.states.values()) == 30
    assert not outcome.violations, "\n".join(map(str, outcome.violations))


def test_a_seed_gives_the_same_plan_again() -> None:
    assert draw(7, 50, 10) == draw(7, 50, 10) != draw(8, 50, 10)
