"""Who may claim what: R9, R5, R13 and promise P3."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import psycopg2
import pytest

from sagas import SagaId
from sagas.registry import Registry
from sagas.runtime.limits import ROWS_AWAITED
from sagas.runtime.runner import Runner
from sagas.settings import Settings
from sagas.store.requests import StartRequest
from tests.harness.servers import libpq_url
from tests.harness.wait import wait_for
from tests.store.lab import ASKED, LEASE, NODE, ONCE, Lab, Run


def test_a_step_ahead_of_its_turn_is_refused(lab: Lab) -> None:
    """R9 (trace): a stray successor while step a waits for its retry must not begin b."""
    run = lab.run(a={}, b={})
    run.do("a", outcome="failed", retry_in=5.0)

    assert run.verdict("b") == "not_current"
    assert run.step("b")["attempt"] == 0


def test_an_early_duplicate_does_not_burn_the_retries(lab: Lab) -> None:
    """R9 (trace): a duplicate in the back-off is refused, and spends nothing."""
    run = lab.run(a={})
    run.do("a", outcome="failed", retry_in=5.0)

    assert [run.verdict("a") for _ in range(5)] == ["not_due"] * 5
    assert run.step("a")["attempt"] == 1
    lab.advance(5.1)
    assert run.verdict("a") == "granted"


def test_undos_out_of_order_are_refused(lab: Lab) -> None:
    """R9 (trace): undo messages out of order must not undo a before b."""
    run = lab.run(a={}, b={}, c={})
    run.do("a", "b")
    run.do("c", outcome="failed")

    assert run.verdict("a", undo=True) == "not_current"
    assert run.verdict("b", undo=True) == "granted"
    assert run.verdict("a", undo=True) == "claimed"


def test_no_step_begins_in_a_saga_that_goes_back(lab: Lab) -> None:
    """R9, P5: the wrong direction, forward."""
    run = lab.run(a={}, b={})
    run.do("a")
    run.cancel()

    assert run.verdict("b") == "wrong_direction"
    assert run.verdict("a") == "wrong_direction"


def test_no_undo_begins_in_a_saga_that_goes_forward(lab: Lab) -> None:
    """R9, R15: an undo that link_error brought changes nothing while the row says forward."""
    run = lab.run(a={}, b={})
    run.do("a")

    assert run.verdict("a", undo=True) == "wrong_direction"
    assert run.verdict("b", undo=True) == "wrong_direction"
    assert run.state == "IN_PROGRESS"


def test_a_live_claim_refuses_every_other(lab: Lab) -> None:
    """P3: one claim at a time."""
    run = lab.run(a={})
    run.claim("a")

    assert [run.verdict("a") for _ in range(3)] == ["claimed"] * 3
    assert run.row()["live_claims"] == 1
    assert run.step("a")["attempt"] == 1


def test_a_step_that_is_done_is_not_run_again(lab: Lab) -> None:
    """R9: a duplicate after the end of the step."""
    run = lab.run(a={}, b={})
    run.do("a")

    assert run.verdict("a") == "not_current"


def test_a_claim_of_nothing_is_answered(lab: Lab) -> None:
    """R9: unknown names are verdicts, not errors."""
    run = lab.run(a={})

    assert run.verdict("nope") == "unknown_step"
    assert lab.store.cancel(type(run.saga_id).new(), "x", None)["verdict"] == "unknown_saga"


def test_the_same_attempt_id_gets_the_same_answer(lab: Lab) -> None:
    """R5: the reply to a claim was lost; it is asked again with its id, and counts once."""
    run = lab.run(a={})
    attempt = uuid.uuid4()

    first, second = run.ask("a", attempt=attempt), run.ask("a", attempt=attempt)

    assert first == second
    assert first["verdict"] == "granted"
    assert (run.row()["live_claims"], run.step("a")["attempt"]) == (1, 1)


def test_the_same_commit_twice_counts_once(lab: Lab) -> None:
    """R5: the reply to a commit was lost; the id stays on the finished row."""
    run = lab.run(a={}, b={})
    attempt = run.claim("a")
    first = run.commit("a", attempt, output={"n": 1})

    second = run.commit("a", attempt, output={"n": 2})

    assert (first["verdict"], first["next"]) == ("committed", "continue")
    assert (second["verdict"], second["next"]) == ("recorded", "continue")
    assert run.step("a")["output_data"] == {"n": 1}
    assert (run.row()["current_step"], run.row()["live_claims"]) == (1, 0)
    assert run.event_types().count("StepCompleted") == 1
    assert run.verdict("a", attempt=attempt) == "recorded"


def test_the_same_failure_twice_spends_one_attempt(lab: Lab) -> None:
    """R5: the same for an attempt that failed."""
    run = lab.run(a={})
    attempt = run.claim("a")
    run.commit("a", attempt, "failed", retry_in=1.0)

    assert run.commit("a", attempt, "failed", retry_in=1.0)["verdict"] == "recorded"
    assert run.step("a")["attempt"] == 1
    assert run.row()["live_claims"] == 0


def test_a_claim_writes_no_event(lab: Lab) -> None:
    """R13: a claim may vanish in a crash, so nothing that the relay reads may come from it."""
    run = lab.run(a={}, b=ONCE)
    before = len(run.events())
    run.claim("a")

    assert len(run.events()) == before


@pytest.mark.parametrize(
    ("kind", "undo", "expected"), [({}, False, "off"), (ONCE, False, "on"), (ONCE, True, "off"), ({}, True, "off")]
)
def test_only_claims_whose_loss_is_harmless_skip_the_disk(
    lab: Lab, kind: dict[str, bool], undo: bool, expected: str
) -> None:
    """R13, P4: the claim of a non-idempotent step waits for the disk, the others' do not."""
    run = lab.run(a=kind, b={})
    if undo:
        run.do("a")
        run.cancel()

    assert synchronous_commit_of_claim(lab, run.saga_id, "a", undo) == expected


def test_the_claim_of_a_verify_waits_for_the_disk(lab: Lab) -> None:
    """R13, R14: two askers must not both believe that they are the only one."""
    run = lab.run(a=ASKED)
    run.lose("a")

    assert synchronous_commit_of_claim(lab, run.saga_id, "a", undo=False) == "on"


def test_a_lease_is_the_time_limit_and_a_margin(lab: Lab) -> None:
    """L69: the lease is longer than the hard limit of its step."""
    run = lab.run(a={})
    run.claim("a")

    assert (run.step("a")["lease_until"] - lab.now()).total_seconds() == LEASE


def synchronous_commit_of_claim(lab: Lab, saga_id: object, step: str, undo: bool) -> str:
    """What the transaction of a granted claim would commit with."""
    connection = lab.connect(autocommit=False)
    try:
        with connection.cursor() as cursor:
            call = "SELECT saga_claim(%s, %s, %s, gen_random_uuid(), 'n', NULL, NULL, NULL, 10) ->> 'verdict' AS v"
            cursor.execute(call, (str(saga_id), step, undo))
            assert cursor.fetchone()["v"] == "granted"
            cursor.execute("SHOW synchronous_commit")
            return str(cursor.fetchone()["synchronous_commit"])
    finally:
        connection.close()


def test_a_claim_that_comes_while_its_saga_is_written(lab: Lab) -> None:
    """It is refused or granted, and holds the saga's row then: the row may come between two looks at it."""
    lab.define("order", a={})
    ids = [SagaId.new() for _ in range(300)]
    asked = Barrier(2)

    def start() -> None:
        for saga_id in ids:
            asked.wait(30)
            lab.store.start(StartRequest("order", {}, saga_id=saga_id))

    with ThreadPoolExecutor(1) as pool:
        started = pool.submit(start)
        for saga_id in ids:
            run, verdict = Run(lab, saga_id), "unknown_saga"
            asked.wait(30)
            while verdict == "unknown_saga":
                verdict = run.verdict("a")
            assert verdict == "granted"
        started.result(30)


def test_a_claim_waits_for_the_start_that_is_under_way(lab: Lab) -> None:
    """Its message is out (decision 0019), and the statement has not committed yet: one question is enough."""
    lab.define("order", a={})
    route = lab.store.start(StartRequest("order", {}))["route"]
    early = SagaId.new()
    connection = psycopg2.connect(libpq_url(lab.url))
    lab.store.start(StartRequest("order", {}, saga_id=early, route=route), session=connection)
    with ThreadPoolExecutor(1) as pool:
        verdict = pool.submit(Run(lab, early).verdict, "a")
        wait_for(lambda: lab.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"), 10)
        connection.commit()
        assert verdict.result(30) == "granted"
    connection.close()


def test_an_attempt_waits_for_the_rows_of_its_saga(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its message may be there before them (decision 0019); not for long."""
    runner = Runner(lab.store, Registry([lab.define("order", a={})]), {}, Settings())
    early, never, pauses = SagaId.new(), SagaId.new(), list[float]()

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            lab.store.start(StartRequest("order", {}, saga_id=early))

    monkeypatch.setattr("sagas.runtime.runner.time.sleep", pause)
    assert runner.run(early, "a", undo=False, by=NODE).verdict == "committed"
    assert pauses == list(ROWS_AWAITED[:2])
    assert runner.run(never, "a", undo=False, by=NODE).verdict == "unknown_saga"
    assert pauses[2:] == list(ROWS_AWAITED)
