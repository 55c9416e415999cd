"""`@on_event` as a value: what it takes, what it refuses, where it is found."""

from typing import Any

import pytest
from celery import Celery

import sagas
from sagas import DefinitionError, DomainEvent, Saga, on_event
from sagas.events import Subscriber
from sagas.registry import Registry
from sagas.runtime.install import user_queues
from sagas.runtime.limits import message_limit
from sagas.runtime.subscribers import find_subscribers
from sagas.settings import Settings
from sagas.store.relay import Subscription, subscriptions_of
from tests.relay import handlers
from tests.relay.conftest import HANDLERS

EVENT = DomainEvent("Happened", "job:1")


def test_a_subscriber_is_callable_and_knows_what_it_wants() -> None:
    @on_event(("A", "B"), timeout=3, queue="mail")
    def both(event: DomainEvent) -> str:
        return event.event_type

    assert isinstance(both, Subscriber)
    assert (both(EVENT), both.name, both.task_name) == ("Happened", "both", "events.both")
    assert subscriptions_of([both], Settings()) == [Subscription("both", ("A", "B"), "task", "mail", 10)]


def test_a_transactional_one_takes_a_session() -> None:
    @on_event("*", transactional=True, name="writer")
    def write(event: DomainEvent, session: Any) -> Any:
        return session

    assert write(EVENT, "session") == "session" and write.name == "writer"


async def asynchronous(event: DomainEvent) -> None: ...


@pytest.mark.parametrize(
    ("types", "function", "options", "says"),
    [
        ((), lambda event: None, {"name": "x"}, "names of event types"),
        (("*", "A"), lambda event: None, {"name": "x"}, "every event already"),
        ("A", lambda event: None, {}, "use a letter"),
        ("A", lambda: None, {"name": "x"}, r"must take \(event\)"),
        ("A", lambda event: None, {"name": "x", "transactional": True}, r"must take \(event, session\)"),
        ("A", asynchronous, {}, "async"),
    ],
)
def test_what_cannot_work_is_refused(types: Any, function: Any, options: dict[str, Any], says: str) -> None:
    with pytest.raises(DefinitionError, match=says):
        on_event(types, **options)(function)


def test_the_exchange_is_a_subscription_too() -> None:
    every = subscriptions_of([], Settings(event_exchange="told"))
    some = subscriptions_of([], Settings(event_exchange="told", event_exchange_types=("A",)))
    assert every == [Subscription("exchange:told", ("*",), "exchange", "told", 1)]
    assert some[0].event_types == ("A",)
    assert subscriptions_of([], Settings()) == []


def test_two_of_one_name_and_a_step_of_the_same_task_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    @on_event("Other", name="plain")
    def again(event: DomainEvent) -> None: ...

    monkeypatch.setattr(handlers, "again", again, raising=False)
    with pytest.raises(DefinitionError, match="defined twice"):
        find_subscribers([HANDLERS], Registry())
    monkeypatch.undo()
    saga = Saga("events")
    saga.step(name="plain")(lambda ctx: None)
    with pytest.raises(DefinitionError, match="both a step and a subscriber"):
        find_subscribers([HANDLERS], Registry([saga]))


def test_install_registers_tasks_queues_and_the_tick() -> None:
    app = Celery("shop", set_as_current=False)
    sagas.install(app, modules=[HANDLERS], database_url="postgresql://nowhere/none")
    assert {"events.plain", "events.counting", "events.elsewhere", "sagas.relay"} <= set(app.tasks)
    assert user_queues(app) == ["mail"]
    assert {"events", "mail"} <= {queue.name for queue in app.conf.task_queues}
    assert list(app.conf.beat_schedule) == ["sagas.reconcile"]
    assert app.tasks["events.plain"].time_limit == message_limit(20)
    app.close()
