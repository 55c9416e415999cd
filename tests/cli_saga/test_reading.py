"""`hodei saga list` and `show`, on sagas that really ran."""

import pytest

from examples.order import order
from sagas import SagaId
from sagas.cli.status import saga_counts
from sagas.runtime.engine import Engine
from tests.cli_saga.conftest import PAYLOAD, Hodei

FORWARD = ["SagaStarted", "StepStarted", "StepCompleted"]


def test_an_empty_database_gives_an_empty_list(hodei: Hodei) -> None:
    assert hodei("saga", "list", "--json").json == []
    assert hodei("saga", "list").out.split() == ["SAGA", "TYPE", "STATE", "STEP", "STARTED", "ENDED", "ERROR"]


def test_list_filters_by_state_and_type_and_limits(hodei: Hodei, engine: Engine) -> None:
    done = engine.orchestrator.execute_saga(order, PAYLOAD)
    declined = engine.orchestrator.execute_saga(order, {**PAYLOAD, "card": "tok_declined"})
    waiting = engine.orchestrator.start_saga("order", PAYLOAD)

    def ids(*words: str) -> list[str]:
        return [one["saga_id"] for one in hodei("saga", "list", "--json", *words).json]

    assert ids() == [str(waiting), str(declined.saga_id), str(done.saga_id)], "the latest first"
    assert ids("--state", "compensated") == [str(declined.saga_id)]
    assert ids("--state", "PENDING", "--state", "COMPLETED") == [str(waiting), str(done.saga_id)]
    assert ids("--type", "order", "--limit", "1") == [str(waiting)]
    assert ids("--type", "other") == []
    (first, second, third) = hodei("saga", "list", "--json").json
    assert (first["state"], first["step"], first["error"]) == ("PENDING", "reserve_stock", None)
    assert (second["state"], second["step"], second["error"]) == (
        "COMPENSATED",
        None,
        "PermanentError: the card was declined",
    )
    assert (third["state"], third["step"]) == ("COMPLETED", None)
    assert str(declined.saga_id) in hodei("saga", "list").out


def test_sagas_in_the_shadow_are_there_only_if_they_are_asked_for(hodei: Hodei, engine: Engine) -> None:
    """They have no effect; each one stands beside work that was done otherwise."""
    real = engine.orchestrator.start_saga("order", PAYLOAD)
    shadow = engine.orchestrator.start_saga("order", PAYLOAD, shadow=True)
    told = {one["saga_id"]: one["shadow"] for one in hodei("saga", "list", "--json").json}
    assert told == {str(real): False}
    told = {one["saga_id"]: one["shadow"] for one in hodei("saga", "list", "--shadow", "--json").json}
    assert told == {str(real): False, str(shadow): True}
    lines = {line.split()[0]: line for line in hodei("saga", "list", "--shadow").out.splitlines()[1:]}
    assert "order (shadow)" in lines[str(shadow)] and "shadow" not in lines[str(real)]
    assert "it runs without effect" in hodei("saga", "show", str(shadow)).out
    assert "shadow" not in hodei("saga", "show", str(real)).out
    assert saga_counts(engine.settings.require_database(), None) == {"PENDING": 1}, "what `hodei status` shows"


def test_show_tells_steps_events_and_what_is_outstanding(hodei: Hodei, engine: Engine) -> None:
    ended = engine.orchestrator.execute_saga(
        order, {**PAYLOAD, "address": "nowhere"}, correlation_id="req-7", actor="shop"
    )
    told = hodei("saga", "show", str(ended.saga_id), "--json").json
    assert (told["state"], told["correlation_id"], told["actor"]) == ("COMPENSATED", "req-7", "shop")
    states = [(step["step_name"], step["state"], step["attempt"], step["undo_attempt"]) for step in told["steps"]]
    assert states == [
        ("reserve_stock", "COMPENSATED", 1, 1),
        ("charge_card", "COMPENSATED", 1, 1),
        ("ship", "FAILED", 1, 0),
    ]
    assert told["steps"][2]["error"] == "PermanentError: there is no way to 'nowhere'"
    assert told["outstanding"] == []
    undone = [event["step_name"] for event in told["events"] if event["event_type"] == "StepCompensated"]
    assert undone == ["charge_card", "reserve_stock"]
    assert [told["events"][i]["event_type"] for i in (0, -1)] == ["SagaStarted", "SagaCompensated"]
    assert "tok_1" not in str(told), "payloads stay in the database"

    text = hodei("saga", "show", str(ended.saga_id)).out
    for word in ("COMPENSATED", "req-7", "charge_card", "StepCompensated", "outstanding: nothing", "'nowhere'"):
        assert word in text


def test_show_names_the_effects_that_a_failed_undo_left(
    hodei: Hodei, engine: Engine, environment: pytest.MonkeyPatch
) -> None:
    """L54."""
    environment.setenv("HODEI_SAGA_MODULES", "tests.cli_saga.stubborn")
    from tests.cli_saga.stubborn import stubborn

    ended = engine.orchestrator.execute_saga(stubborn)
    assert ended.outcome == "FAILED"
    (entry,) = hodei("saga", "show", str(ended.saga_id), "--json").json["outstanding"]
    assert entry["step"] == "take"
    assert 'outstanding: {"' in hodei("saga", "show", str(ended.saga_id)).out


def test_an_unknown_id_is_one_line(hodei: Hodei) -> None:
    saga_id = SagaId.new()
    assert hodei("saga", "show", str(saga_id)).refusal == f"hodei: there is no saga {saga_id}"
    assert hodei("saga", "show", "42").refusal == "hodei: '42' is no saga id (a UUID is meant)"
    assert hodei("saga", "cancel", str(saga_id)).refusal == f"hodei: there is no saga {saga_id}"


@pytest.mark.database("empty")
def test_a_database_without_tables_is_one_line(hodei: Hodei) -> None:
    assert hodei("saga", "list").refusal == "hodei: the database has no engine tables yet; run: hodei db upgrade"


def test_a_database_that_is_away_is_one_line(hodei: Hodei, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("HODEI_DATABASE_URL", "postgresql://127.0.0.1:1/nothing")
    for words in (["list"], ["show", str(SagaId.new())], ["start", "order"], ["cancel", str(SagaId.new())]):
        assert hodei("saga", *words).refusal.startswith("hodei: PostgreSQL does not answer: ")


def test_without_any_database_the_line_says_what_to_set(hodei: Hodei, environment: pytest.MonkeyPatch) -> None:
    environment.delenv("HODEI_DATABASE_URL")
    assert "set HODEI_DATABASE_URL" in hodei("saga", "list").refusal
