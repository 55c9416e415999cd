"""Two connections at once, each seen blocked by the other: R3, R10 and promise P5."""

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.store.lab import Lab, wait_until_blocked

CLAIM = "SELECT saga_claim(%s, %s, %s, %s, 'n', NULL, NULL, NULL, 10) AS answer"
FAILED = "SELECT saga_commit(%s, %s, %s, 'failed', 'null', %s, '[]', NULL, false) AS answer"
DONE = "SELECT saga_done(%s, %s, %s, 'null', false, 10) AS answer"
CANCEL = "SELECT saga_cancel(%s, 'now', NULL) AS answer"
PLANNED = '{"type": "Planned", "message": "x"}'


class Second:
    """A statement on its own connection, in its own thread; it commits by itself."""

    def __init__(self, lab: Lab, sql: str, values: tuple[Any, ...]) -> None:
        self._connection = lab.connect()
        self._answer: list[Any] = []

        def work() -> None:
            with self._connection.cursor() as cursor:
                cursor.execute(sql, values)
                self._answer.append(cursor.fetchone()["answer"])

        self._thread = threading.Thread(target=work)
        self._thread.start()
        wait_until_blocked(lab, self._connection.info.backend_pid)

    def answer(self) -> dict[str, Any]:
        self._thread.join(10)
        self._connection.close()
        (answer,) = self._answer
        return dict(answer)


@contextmanager
def held(lab: Lab, sql: str, *values: Any) -> Iterator[Callable[[], None]]:
    """That statement's transaction, open until the function it gives is called."""
    connection = lab.connect(autocommit=False)
    try:
        with connection.cursor() as cursor:
            cursor.execute(sql, values)
            assert cursor.fetchone() is not None
        yield connection.commit
    finally:
        connection.close()


def test_a_claim_that_waited_for_a_cancel_is_refused(lab: Lab) -> None:
    """R3 (trace): claim beside begin-compensation; the claim must see what it waited for."""
    run = lab.run(a={}, b={})
    run.do("a")

    with held(lab, CANCEL, str(run.saga_id)) as commit:
        claim = Second(lab, CLAIM, (str(run.saga_id), "b", False, str(uuid.uuid4())))
        commit()
        assert claim.answer()["verdict"] == "wrong_direction"

    assert run.state == "COMPENSATING"
    assert (run.row()["live_claims"], run.step("b")["state"]) == (0, "PENDING")


def test_a_cancel_that_waited_for_a_claim_does_not_open_an_undo(lab: Lab) -> None:
    """R3, R10: the other order; the saga goes back, and its undo waits for the claim's end."""
    run = lab.run(a={}, b={})
    run.do("a")
    attempt = uuid.uuid4()

    with held(lab, CLAIM, str(run.saga_id), "b", False, str(attempt)) as commit:
        cancel = Second(lab, CANCEL, (str(run.saga_id),))
        commit()
        assert cancel.answer()["verdict"] == "compensating"

    assert run.verdict("a", undo=True) == "claimed"
    assert run.commit("b", attempt)["next"] == "undo"
    run.undo("b", "a")
    assert run.state == "CANCELLED"


def test_two_claims_of_one_step_grant_one(lab: Lab) -> None:
    """P3: the second waits for the first, then is refused."""
    run = lab.run(a={})

    with held(lab, CLAIM, str(run.saga_id), "a", False, str(uuid.uuid4())) as commit:
        second = Second(lab, CLAIM, (str(run.saga_id), "a", False, str(uuid.uuid4())))
        commit()
        assert second.answer()["verdict"] == "claimed"

    assert (run.row()["live_claims"], run.step("a")["attempt"]) == (1, 1)


def test_a_commit_that_waited_for_the_takeover_is_late(lab: Lab) -> None:
    """R4, L36: expiry is being written while the attempt reports."""
    run = lab.run(a={}, b={})
    attempt = run.claim("a")
    take_over = "SELECT saga_take_over(%s, 'a', %s, 'test') AS answer"

    with held(lab, take_over, str(run.saga_id), str(attempt)) as commit:
        late = Second(lab, DONE, (str(run.saga_id), "a", str(attempt)))
        commit()
        assert late.answer()["verdict"] == "late"

    assert run.step("a")["state"] == "PENDING"
    assert run.row()["current_step"] == 0


def test_a_takeover_that_waited_for_the_commit_finds_nothing(lab: Lab) -> None:
    """R4: the other order: the attempt was in time."""
    run = lab.run(a={}, b={})
    attempt = run.claim("a")

    with held(lab, DONE, str(run.saga_id), "a", str(attempt)) as commit:
        second = lab.connect()
        answers: list[str] = []

        def take_over() -> None:
            with second.cursor() as cursor:
                cursor.execute("SELECT saga_take_over(%s, 'a', %s, 'x') AS answer", (str(run.saga_id), str(attempt)))
                answers.append(cursor.fetchone()["answer"])

        thread = threading.Thread(target=take_over)
        thread.start()
        wait_until_blocked(lab, second.info.backend_pid)
        commit()
        thread.join(10)
        second.close()

    assert answers == ["gone"]
    assert run.step("a")["state"] == "COMPLETED"
    assert run.row()["current_step"] == 1


def test_reconcile_passes_by_a_saga_that_somebody_holds(lab: Lab) -> None:
    """R21 (trace): one stopped transaction must not hold up a whole batch."""
    stuck, other = lab.run(a={}), lab.run(a={})

    with held(lab, CLAIM, str(stuck.saga_id), "a", False, str(uuid.uuid4())):
        found = lab.reconcile()

    assert [one["saga_id"] for one in found] == [str(other.saga_id)]


def test_two_reconcilers_do_disjoint_work(lab: Lab) -> None:
    """L24, L59: while one holds the lock, the other does nothing at all."""
    run = lab.run(a={})

    with held(lab, "SELECT saga_reconcile(200, 10) AS answer") as commit:
        assert lab.store.reconcile(200) is None
        commit()

    assert lab.store.reconcile(200) == (0, [], {})
    assert run.step("a")["published_at"] is not None


def test_a_failure_and_a_cancel_at_once_turn_round_once(lab: Lab) -> None:
    """R3: both want to go back; the saga does so once, with one event."""
    run = lab.run(a={}, b={})
    run.do("a")
    attempt = run.claim("b")

    with held(lab, FAILED, str(run.saga_id), "b", str(attempt), PLANNED) as commit:
        cancel = Second(lab, CANCEL, (str(run.saga_id),))
        commit()
        assert cancel.answer()["verdict"] == "compensating"

    assert run.event_types().count("SagaCompensating") == 1
    run.undo("a")
    assert run.state == "COMPENSATED"


def test_an_undo_and_its_duplicate_grant_one(lab: Lab) -> None:
    """P6, L12: compensations run one by one, whatever the messages do."""
    run = lab.run(a={}, b={})
    run.do("a", "b")
    assert run.state == "COMPLETED"
    run = lab.run(a={}, b={})
    run.do("a")
    run.do("b", outcome="failed")

    with held(lab, CLAIM, str(run.saga_id), "a", True, str(uuid.uuid4())) as commit:
        second = Second(lab, CLAIM, (str(run.saga_id), "a", True, str(uuid.uuid4())))
        commit()
        assert second.answer()["verdict"] == "claimed"

    assert (run.row()["live_claims"], run.step("a")["undo_attempt"]) == (1, 1)
