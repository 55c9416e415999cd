"""Starting: R8, promises P1, P11, P12, lines L62 and L63."""

import threading
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg2
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from sagas import IdempotencyKeyReused, InvalidPayload, SagaId, UnknownSaga
from sagas.errors import ConfigurationError, StorageUnavailable
from sagas.store.database import connect_engine
from sagas.store.requests import StartRequest
from sagas.store.store import Store
from sagas.store.wire import OtherRoute
from tests.store.lab import Lab, wait_until_blocked

START = "SELECT start_saga('order', '{\"n\": 1}', 'order-42') AS saga_id"


@pytest.fixture
def shop(lab: Lab) -> Lab:
    lab.define("order", a={}, b={})
    return lab


def at_once(lab: Lab, count: int, request: StartRequest) -> list[dict]:
    """That many threads start at the same instant; their answers, or the errors."""
    engine = connect_engine(lab.url, pool_size=count)
    store, barrier = Store(engine), threading.Barrier(count)
    answers: list[dict] = []

    def start() -> None:
        with engine.connect():
            pass
        barrier.wait(30)
        try:
            answers.append(store.start(request))
        except Exception as error:  # noqa: BLE001 - shown by the assertion
            answers.append({"error": repr(error)})

    threads = [threading.Thread(target=start) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    engine.dispose()
    return answers


def test_fifty_starts_of_one_key_make_one_saga(shop: Lab) -> None:
    """L63, P11: at once, from connections of their own."""
    answers = at_once(shop, 50, StartRequest("order", {"n": 1}, "order-42"))

    assert [answer for answer in answers if "error" in answer] == []
    assert len({answer["saga_id"] for answer in answers}) == 1
    assert Counter(answer["created"] for answer in answers) == {True: 1, False: 49}
    assert shop.value("SELECT count(*) FROM saga_instances") == 1
    assert shop.value("SELECT count(*) FROM saga_steps") == 2
    assert shop.value("SELECT count(*) FROM saga_events") == 1


def test_fifty_times_the_same_message_make_one_saga(shop: Lab) -> None:
    """L7, P1: one message, with its id and its key, delivered many times at once: no error, one saga."""
    for round_ in range(4):
        request = StartRequest("order", {"n": 1}, f"order-{round_}", saga_id=SagaId.new())
        answers = at_once(shop, 50, request)

        assert [answer for answer in answers if "error" in answer] == []
        assert {answer["saga_id"] for answer in answers} == {str(request.saga_id)}
    assert shop.value("SELECT count(*) FROM saga_instances") == 4


def test_fifty_times_the_same_id_without_a_key_make_one_saga(shop: Lab) -> None:
    """P1: the client mints the id, so asking again is safe."""
    request = StartRequest("order", {"n": 1}, saga_id=SagaId.new())
    answers = at_once(shop, 50, request)

    assert {answer["saga_id"] for answer in answers} == {str(request.saga_id)}
    assert Counter(answer["created"] for answer in answers) == {True: 1, False: 49}


def test_the_second_caller_waits_for_the_first_and_gets_its_saga(shop: Lab) -> None:
    """R8: no row and no handle would be a lost saga."""
    first, second = shop.connect(autocommit=False), shop.connect()
    found: list[str] = []
    try:
        with first.cursor() as cursor:
            cursor.execute(START)
            saga_id = cursor.fetchone()["saga_id"]

        def start() -> None:
            with second.cursor() as cursor:
                cursor.execute(START)
                found.append(cursor.fetchone()["saga_id"])

        thread = threading.Thread(target=start)
        thread.start()
        wait_until_blocked(shop, second.info.backend_pid)
        first.commit()
        thread.join(10)
    finally:
        first.close()
        second.close()

    assert found == [saga_id]


def test_the_second_caller_goes_first_when_the_first_rolls_back(shop: Lab) -> None:
    """R8, L62: then the second one's saga is the saga."""
    first, second = shop.connect(autocommit=False), shop.connect()
    try:
        with first.cursor() as cursor:
            cursor.execute(START)
        done = threading.Event()

        def start() -> None:
            with second.cursor() as cursor:
                cursor.execute(START)
            done.set()

        threading.Thread(target=start).start()
        wait_until_blocked(shop, second.info.backend_pid)
        first.rollback()
        assert done.wait(10)
    finally:
        first.close()
        second.close()

    assert shop.value("SELECT count(*) FROM saga_instances") == 1
    assert shop.value("SELECT count(*) FROM saga_steps") == 2


def test_who_waits_for_a_key_has_none_that_comes_after_it(shop: Lab) -> None:
    """R8, R21: in whatever order he starts them, so that two such callers never wait for each other."""

    def start_many(connection: sa.Connection, *keys: str) -> list[str]:
        requests = [StartRequest("order", {}, idempotency_key=key) for key in keys]
        return [one["saga_id"] for one in shop.store.start_many(requests, session=connection)]

    with shop.engine.connect() as first, shop.engine.connect() as second, ThreadPoolExecutor(1) as pool:
        b = start_many(first, "b")
        pid = second.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        waits = pool.submit(start_many, second, "c", "b", "a")
        wait_until_blocked(shop, pid)
        c = start_many(first, "c")
        first.commit()
        assert waits.result(10)[:2] == [*c, *b]


def test_a_caller_that_waits_too_long_is_told(shop: Lab) -> None:
    """R8, R21: lock_timeout, no endless wait."""
    first, second = shop.connect(autocommit=False), shop.connect()
    try:
        with first.cursor() as cursor:
            cursor.execute(START)
        with second.cursor() as cursor, pytest.raises(psycopg2.errors.LockNotAvailable):
            cursor.execute(START)
    finally:
        first.close()
        second.close()


def test_who_waits_in_vain_has_a_database(shop: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """R21: he does not wait again, nor lose his connection."""
    run = Store._run
    runs: list[object] = []

    def count(self: Store, work: Any) -> Any:
        runs.append(work)
        return run(self, work)

    monkeypatch.setattr(Store, "_run", count)
    first = shop.connect(autocommit=False)
    try:
        with first.cursor() as cursor:
            cursor.execute(START)
        mine = shop.store._call("SELECT pg_backend_pid()", ())
        with pytest.raises(StorageUnavailable, match="lock timeout"):
            shop.store._call(START, ())
        assert shop.store._call("SELECT pg_backend_pid()", ()) == mine
        assert len(runs) == 3
    finally:
        first.close()


def test_rolled_back_is_not_started(shop: Lab) -> None:
    """L62: start with session=, roll back: no saga, no step, no event."""
    with Session(shop.engine) as session:
        shop.store.start(StartRequest("order", {}), session=session)
        session.rollback()

    assert shop.value("SELECT count(*) FROM saga_instances") == 0
    assert shop.value("SELECT count(*) FROM saga_events") == 0


@pytest.mark.parametrize("kind", ["session", "connection", "dbapi"])
def test_committed_with_the_caller_s_own_rows(shop: Lab, kind: str) -> None:
    """L62: it runs although nobody published anything."""
    shop.sql("CREATE TABLE own (n integer)")
    if kind == "session":
        with Session(shop.engine) as session:
            session.execute(sa.text("INSERT INTO own VALUES (1)"))
            shop.store.start(StartRequest("order", {}), session=session)
            session.commit()
    elif kind == "connection":
        with shop.engine.begin() as connection:
            connection.execute(sa.text("INSERT INTO own VALUES (1)"))
            shop.store.start(StartRequest("order", {}), session=connection)
    else:
        raw = shop.connect(autocommit=False)
        raw.cursor_factory = None
        with raw.cursor() as cursor:
            cursor.execute("INSERT INTO own VALUES (1)")
        shop.store.start(StartRequest("order", {}), session=raw)
        raw.commit()
        raw.close()

    assert shop.value("SELECT count(*) FROM own") == 1
    (found,) = shop.reconcile()
    assert found["known"] is True
    assert [hop["step"] for hop in found["route"]] == ["a", "b"]


def test_something_else_as_a_session_is_refused(shop: Lab) -> None:
    """P12."""
    with pytest.raises(ConfigurationError, match="session="):
        shop.store.start(StartRequest("order", {}), session=object())


def test_a_key_with_another_payload_is_refused(shop: Lab) -> None:
    """P11."""
    shop.start("order", {"n": 1}, idempotency_key="k")
    with pytest.raises(IdempotencyKeyReused, match="'k'"):
        shop.start("order", {"n": 2}, idempotency_key="k")

    assert shop.value("SELECT count(*) FROM saga_instances") == 1


def test_a_key_is_its_saga_s_own(shop: Lab) -> None:
    """P11: one key, two definitions: two sagas."""
    shop.define("refund", a={})

    assert shop.start("order", idempotency_key="k").saga_id != shop.start("refund", idempotency_key="k").saga_id


def test_a_key_counts_for_any_version_and_after_the_end(shop: Lab) -> None:
    """P11: until purged."""
    run = shop.start("order", idempotency_key="k")
    run.do("a", "b")
    assert run.state == "COMPLETED"
    shop.define("order", version=2, c={})

    again = shop.store.start(StartRequest("order", {}, "k"))
    assert (again["saga_id"], again["created"], again["state"]) == (str(run.saga_id), False, "COMPLETED")
    assert again["route"] == []


def test_an_id_under_another_key_is_refused(shop: Lab) -> None:
    """P11, P12: in words, not as a unique violation."""
    run = shop.start("order", idempotency_key="k1")
    with pytest.raises(IdempotencyKeyReused):
        shop.start("order", idempotency_key="k2", saga_id=run.saga_id)

    assert run.row()["idempotency_key"] == "k1"


def test_an_id_of_another_saga_is_refused(shop: Lab) -> None:
    """P11."""
    shop.define("refund", a={})
    run = shop.start("order")
    with pytest.raises(IdempotencyKeyReused):
        shop.start("refund", saga_id=run.saga_id)


def test_the_newest_version_is_started(shop: Lab) -> None:
    """Section 6.1; and the one that is asked for."""
    shop.define("order", version=2, c={})

    assert shop.start("order").row()["version"] == 2
    assert shop.start("order", version=1).row()["version"] == 1


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"saga_type": "nope"}, UnknownSaga),
        ({"version": 9}, UnknownSaga),
        ({"payload": [1]}, InvalidPayload),
        ({"payload": "text"}, InvalidPayload),
        ({"payload": {"big": "x" * 300_000}}, InvalidPayload),
        ({"idempotency_key": ""}, InvalidPayload),
        ({"idempotency_key": "k" * 256}, InvalidPayload),
        ({"payload": {"nul": "a\0b"}}, ValueError),
        ({"payload": {"half": "\ud800"}}, ValueError),
        ({"payload": {"number": float("nan")}}, ValueError),
        ({"payload": {"object": object()}}, TypeError),
    ],
)
def test_bad_input_is_an_error_before_anything_is_written(shop: Lab, fields: dict, error: type[Exception]) -> None:
    """P12: one clear line."""
    given = {"saga_type": "order", "payload": {}, **fields}
    with pytest.raises(error) as caught:
        shop.store.start(StartRequest(**given))

    assert "\n" not in str(caught.value)
    assert shop.value("SELECT count(*) FROM saga_instances") == 0


def test_what_looks_like_an_escape_is_text(shop: Lab) -> None:
    """P12: a backslash before it makes it text, which is stored as it is."""
    payload = {"text": "\\u0000 \\ud800", "emoji": "\N{SNAKE}"}

    assert shop.start("order", payload).row()["context"]["payload"] == payload


def test_from_any_language(shop: Lab) -> None:
    """Section 4: SELECT start_saga('order', '{"sku": "A1"}', 'order-42')."""
    saga_id = shop.value(START)

    assert isinstance(saga_id, uuid.UUID)
    assert shop.value(START) == saga_id
    found = shop.repository.find_by_key("order", "order-42")
    assert found is not None
    assert (found.payload, found.state) == ({"n": 1}, "PENDING")


def test_a_queue_may_be_named_by_the_payload(lab: Lab) -> None:
    """Section 9: provider.<host>; what it lacks is said before anything is written."""
    lab.define("place", a={"queue": "provider.{host}"})

    assert lab.start("place", {"host": "h1"}).step("a")["queue"] == "provider.h1"
    assert lab.start("place", {"host": "h1"}).step("a")["undo_queue"] == "provider.h1"
    with pytest.raises(InvalidPayload, match="host"):
        lab.start("place", {})


def test_an_id_without_a_key_does_not_get_one_later(shop: Lab) -> None:
    """P11: the key would name a saga that does not carry it."""
    run = shop.start("order")
    with pytest.raises(IdempotencyKeyReused, match="another key"):
        shop.start("order", idempotency_key="k", saga_id=run.saga_id)


def test_many_of_which_some_are_the_same(shop: Lab) -> None:
    """P11: within one call, too, a key or an id is one saga; the answers come in the order of the questions."""
    before = shop.store.start(StartRequest("order", {"n": 0}, "old"))
    one = SagaId.new()
    requests = [
        StartRequest("order", {"n": 1}, "new", published=True),
        StartRequest("order", {"n": 0}, "old"),
        StartRequest("order", {"n": 1}, "new"),
        StartRequest("order", {"n": 2}, saga_id=one),
        StartRequest("order", {"n": 2}, saga_id=one),
    ]
    answers = shop.store.start_many(requests)

    assert [answer["created"] for answer in answers] == [True, False, False, True, False]
    assert [answer["saga_id"] for answer in answers[1:]] == [
        before["saga_id"],
        answers[0]["saga_id"],
        str(one),
        str(one),
    ]
    assert [[hop["step"] for hop in answer["route"]] for answer in answers] == [["a", "b"], [], [], ["a", "b"], []]
    assert shop.value("SELECT count(*) FROM saga_instances") == 3
    assert shop.value("SELECT count(*) FROM saga_steps") == 6
    assert shop.value("SELECT count(*) FROM saga_events WHERE event_type = 'SagaStarted'") == 3


@pytest.mark.parametrize(
    ("second", "error"),
    [
        (StartRequest("order", {"n": 2}, "same"), IdempotencyKeyReused),
        (StartRequest("order", {"n": 2}, "k" * 256), InvalidPayload),
        (StartRequest("order", {"n": "x" * 300_000}), InvalidPayload),
    ],
    ids=["key", "long key", "large"],
)
def test_one_bad_of_many_starts_none(shop: Lab, second: StartRequest, error: type[Exception]) -> None:
    """P12."""
    with pytest.raises(error):
        shop.store.start_many([StartRequest("order", {"n": 1}, "same"), second])

    assert shop.value("SELECT count(*) FROM saga_instances") == 0


def test_the_route_of_a_start_is_that_of_the_rows(lab: Lab) -> None:
    """One rule, said twice: `saga_create` cannot see the rows that it has just written."""
    lab.define("long", a={}, b={}, c={}, d={}, e={}, f={})
    answer = lab.store.start(StartRequest("long", {}))

    assert answer["route"] == lab.value("SELECT saga_route(%s, false, 0)", answer["saga_id"])


def test_one_id_with_two_keys_is_refused(shop: Lab) -> None:
    """P12: not an error of PostgreSQL's own."""
    shop.store.start(StartRequest("order", {"n": 1}, "old"))
    one = SagaId.new()
    with pytest.raises(IdempotencyKeyReused, match="twice in one call"):
        shop.store.start_many(
            [StartRequest("order", {"n": 1}, "old", saga_id=one), StartRequest("order", {"n": 1}, "new", saga_id=one)]
        )

    assert shop.value("SELECT count(*) FROM saga_instances") == 1


def test_an_id_made_in_sql_is_one_of_the_library(shop: Lab) -> None:
    before = SagaId.new()
    made = SagaId(shop.sql("SELECT start_saga('order', '{}') AS saga_id")[0]["saga_id"])
    assert (made.variant, made.version) == (before.variant, 7)
    assert abs((made.int >> 80) - (before.int >> 80)) < 60_000


def test_each_step_has_an_id_near_its_sagas(lab: Lab) -> None:
    """L62: also where a caller counts its ids up."""
    steps: dict[str, Any] = {f"s{number}": {} for number in range(300)}
    lab.define("long", **steps)
    first = SagaId.new()
    sagas = [SagaId(uuid.UUID(int=first.int + number)) for number in range(5)]
    for saga in sagas:
        lab.store.start(StartRequest("long", {}, saga_id=saga))
    rows = lab.sql("SELECT saga_id, step_id FROM saga_steps")
    assert len({row["step_id"] for row in rows}) == 1500
    assert {str(row["step_id"])[:13] for row in rows} == {str(first)[:13]}


def test_a_saga_with_another_route_than_its_message_is_not_started(lab: Lab) -> None:
    """Its message may be where its step does not belong (decision 0019)."""
    lab.define("ship", a={"queue": "depot.{depot}"}, b={})
    route = lab.store.start(StartRequest("ship", {"depot": "north"}))["route"]
    other = StartRequest("ship", {"depot": "south"}, saga_id=SagaId.new(), route=route)
    with pytest.raises(OtherRoute):
        lab.store.start(other)
    assert lab.value("SELECT count(*) FROM saga_instances") == 1
    fits = StartRequest("ship", {"depot": "north"}, saga_id=SagaId.new(), route=route)
    answer = lab.store.start(fits)
    assert (answer["created"], answer["route"]) == (True, route)
    # The reply was lost, and it is asked again.
    again = lab.store.start(fits)
    assert (again["created"], again["saga_id"]) == (False, str(fits.saga_id))
