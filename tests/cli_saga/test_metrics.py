"""US-1.3 criterion 5: sagas_started, sagas_completed, sagas_compensated, sagas_failed, as counts over rows."""

from examples.order import order
from sagas.runtime.engine import Engine
from sagas.store.requests import StartRequest
from tests.cli_saga.conftest import PAYLOAD, Hodei
from tests.cli_saga.stubborn import stubborn

NOTHING = dict.fromkeys(("sagas_started", "sagas_completed", "sagas_compensated", "sagas_cancelled", "sagas_failed"), 0)


def test_without_sagas_every_count_is_there_and_zero(hodei: Hodei) -> None:
    assert hodei("saga", "metrics", "--json").json == {**NOTHING, "by_type": {}}


def test_each_end_has_its_count_and_a_shadow_has_none(hodei: Hodei, engine: Engine) -> None:
    for _ in range(2):
        engine.orchestrator.execute_saga(order, PAYLOAD)
    engine.orchestrator.execute_saga(order, {**PAYLOAD, "card": "tok_declined"})
    engine.orchestrator.start_saga("order", PAYLOAD)
    cancelled = engine.orchestrator.start_saga("order", PAYLOAD)
    assert hodei("saga", "cancel", str(cancelled)).code == 0
    engine.store.start(StartRequest("order", PAYLOAD, shadow=True))
    engine.orchestrator.execute_saga(stubborn)
    counts = {"sagas_started": 5, "sagas_completed": 2, "sagas_compensated": 1, "sagas_cancelled": 1, "sagas_failed": 0}
    told = hodei("saga", "metrics", "--json").json
    failed = {**NOTHING, "sagas_started": 1, "sagas_failed": 1}
    total = {**counts, "sagas_started": 6, "sagas_failed": 1}
    assert told == {**total, "by_type": {"order": counts, "stubborn": failed}}
    table = [line.split() for line in hodei("saga", "metrics").out.splitlines()]
    assert table == [
        ["SAGA", "STARTED", "COMPLETED", "COMPENSATED", "CANCELLED", "FAILED"],
        ["order", "5", "2", "1", "1", "0"],
        ["stubborn", "1", "0", "0", "0", "1"],
        ["all", "6", "2", "1", "1", "1"],
    ]
