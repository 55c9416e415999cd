"""Local continuation: a message goes on to the next steps of its saga in the same process (design 6.5), and to the
sagas that it brings besides (`packs`), side by side where they are quick (`abreast`).

Not a second engine: the commit of a step claims the next one with it, and that one is run as the Celery task it is,
with its own id, name, parent and signals, only without the broker in between.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from sagas.runtime.abreast import Lane, Lanes
from sagas.runtime.continued import Continued, Told, brought, successor, told, with_headers
from sagas.runtime.ended import Hold, Report
from sagas.runtime.handover import Granted, MayGoOn
from sagas.runtime.limits import CLAIM_PATIENCE
from sagas.runtime.outgoing import Outgoing
from sagas.runtime.publish import COMPENSATE, COMPENSATIONS, PACK, publish_route, saga_and_step, task_name, together
from sagas.runtime.successors import Successors, may_wait, needed
from sagas.settings import LEASE_MARGIN
from sagas.types import SagaId

if TYPE_CHECKING:
    from celery import Task

    from sagas.runtime.engine import Engine
    from sagas.runtime.maker import Raw


class _Message(threading.local):
    """The message that this thread is at."""

    began: float = 0.0
    until: float = 0.0
    limit: float = 0.0
    patience: float = CLAIM_PATIENCE
    """How long its claim may wait for PostgreSQL."""
    follows: bool = False
    """Whether it is beyond its first task."""
    granted: Granted | None = None
    brought: list[str]
    """Sagas that it brings besides, and that have not begun."""
    first: Task | None = None
    """The task that they begin with."""
    asked: dict[str, Granted]
    """Of those: what was asked for and not granted, to be asked for again as the same attempt."""
    acted: bool = False
    """Whether it has done a step, and was not only refused."""
    hold: Hold | None = None
    """Takes what the step at hand has done, where its saga is one of several that go side by side."""
    then: tuple[str, Granted | None] | None = None
    outgoing: list[Raw] | None = None
    """What its worker's main process sends when it is over; None where there is no worker."""

    def begin(self, budget: float, limit: float, first: Task | None = None, brought: Sequence[str] = ()) -> None:
        self.began = time.monotonic()
        self.until = self.began + budget
        self.limit = limit
        self.patience = CLAIM_PATIENCE
        self.follows = False
        self.granted = self.then = self.hold = None
        self.first, self.brought, self.asked, self.acted = first, list(brought), {}, False

    def advance(self) -> str | None:
        """The name of the task that is to be run now, its claim at hand or not; None at the message's end."""
        name, self.granted = self.then or (None, None)
        self.then = None
        self.follows = True
        return name

    def left(self) -> float:
        """Seconds of its hard limit that are left."""
        return self.limit - (time.monotonic() - self.began)


class Continuation:
    """Of one engine: where each thread's message stands, and what it goes on to."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._message = _Message()
        self._successors = Successors(engine)
        self._outgoing = Outgoing(engine.app)
        self._paces: dict[str, float] = {}
        """Seconds that one of several took that went side by side when last they did, by their first task."""

    def trace(self, task: Task, tracer: Any, uuid: str, args: Any, kwargs: Any, request: Any = None) -> Any:
        """Celery's tracer for a message of `task`, each step that it goes on to, each saga that it brings."""
        budget = self._engine.settings.continuation_ms / 1000
        others = list(request[PACK]["sagas"]) if request and request.get(PACK) else []
        here = self._message
        followed: list[Told] = []
        here.outgoing = []
        try:
            if budget <= 0 or request is None:
                self._send_apart(task, request, others)
                return _told(tracer(uuid, args, kwargs, request), here.outgoing)
            request = with_headers(request)
            here.begin(budget, task.time_limit or math.inf, task, others)
            if here.brought and self._spare() < 0:
                self._send_apart(task, request, here.brought)
            answer = tracer(uuid, args, kwargs, request)
            ended = time.time()
            self._follow(request, followed)
            # What a failed task tells its parent has no room for what followed it.
            if answer.info is None:
                self._abreast(task, request, followed)
                while here.brought and (spare := self._spare()) >= 0:
                    here.patience = min(spare, CLAIM_PATIENCE)
                    here.granted = here.asked.get(here.brought[0])
                    other = brought(self._engine.app, request, here.brought.pop(0))
                    followed.append(told(task, other))
                    self._follow(other, followed)
            self._send_apart(task, request, here.brought)
            return _told(answer, here.outgoing, followed, ended)
        finally:
            here.until = 0.0
            here.hold = here.outgoing = None

    def _follow(self, request: dict[str, Any], followed: list[Told]) -> None:
        """Run what the task of this request has gone on to, and so on."""
        while (name := self._message.advance()) is not None:
            request = successor(request, name)
            followed.append(told(self._engine.app.tasks[name], request))

    def _abreast(self, task: Task, request: dict[str, Any], followed: list[Told]) -> None:
        """Several of the sagas that the message brings side by side: as many as its budget has time for, by what one
        took when they last went so, or else by the one that this message has just gone through.
        """
        here, engine, now = self._message, self._engine, time.monotonic()
        if not here.brought or not here.acted:
            return
        known = self._successors.known(*saga_and_step(task.name))
        spare = self._spare()
        if known is None or spare < 0 or not may_wait(known[1]):
            return
        until = min(here.until, now + LEASE_MARGIN / 2)  # a lease must do for the wait, too
        # Used once, unless they go so again: a process that was slow for a moment measures anew.
        count = min(len(here.brought), int((until - now) / self._paces.pop(task.name, now - here.began)))
        if count < 2:
            return
        saga, step = known
        by = engine.claimant(request.get("hostname"))
        asked = [SagaId(one) for one in here.brought[:count]]
        lanes: list[Lane] = []
        for granted in engine.runner.claim_all(asked, saga.version, step.name, by, min(spare, CLAIM_PATIENCE)):
            if granted.claim:
                here.brought.remove(str(granted.saga_id))
                lanes.append(Lane(task.name, brought(engine.app, request, str(granted.saga_id)), granted))
            else:
                here.asked[str(granted.saga_id)] = granted
        if not lanes:
            return
        with Lanes(engine, lanes, until) as abreast:
            while abreast:
                self._advance(abreast, followed)
        if abreast.given_back < len(lanes):
            self._paces[task.name] = (time.monotonic() - now) / (len(lanes) - abreast.given_back)

    def _advance(self, lanes: Lanes, followed: list[Told]) -> None:
        """One step of each of them, and one commit; then those that do not go on with the others do so alone."""
        here = self._message
        apart: list[tuple[Lane, Report | None]] = []
        while (lane := lanes.take()) is not None:
            if time.monotonic() >= lanes.until:
                lanes.hold(lane, lane.unbegun())
                continue
            here.granted, here.hold = lane.granted, partial(lanes.hold, lane)
            followed.append(told(self._engine.app.tasks[lane.name], lane.request))
            here.hold = None
            if here.granted is not None:  # Celery itself refused the task
                here.granted = None
                lanes.hold(lane, lane.unbegun())
            if here.then is not None:
                # It has failed for good, and its link_error is not published because this message goes on (`turn`).
                here.then = None
                apart.append((lane, None))
        on: list[Lane] = []
        reports = lanes.commit()
        for lane, report in reports:
            if report.then is not None:
                name = task_name(report.saga_type, report.then.step, False)
                on.append(Lane(name, successor(lane.request, name), report.then))
            elif report.next == "continue":
                apart.append((lane, report))
        lanes.leave([(lane, report) for lane, report in reports if report.next != "continue"])
        lanes.go_on(on, apart)
        while (one := lanes.take_apart()) is not None:
            self._apart(lanes, *one, followed)

    def _apart(self, lanes: Lanes, lane: Lane, report: Report | None, followed: list[Told]) -> None:
        """Go on, or back, with this saga by itself, if this message still may: by a message of its own otherwise."""
        here = self._message
        if report is None:
            name = COMPENSATE if time.monotonic() < here.until else None
        else:
            names = self._may_go_on(lane.granted.step, False, False, report.saga_type, report.version)
            name = task_name(report.saga_type, names[0], False) if names else None
        if name is not None:
            if report is not None:
                here.patience = min(max(here.left() - needed(self._engine.app.tasks[name]), 0.0), CLAIM_PATIENCE)
            here.then = (name, None)
            self._follow(lane.request, followed)
        elif report is not None:
            lanes.leave([(lane, report)])
        else:
            lanes.hint(lane.granted.saga_id)

    def _spare(self) -> float:
        """For a saga that the message brings: seconds of its hard limit that the first step and its commit do not need
        (R12); less than none if it may not begin by this message as by one of its own (decision 0014).
        """
        here = self._message
        if here.first is None or time.monotonic() >= here.until:
            return -1.0
        seconds = self._successors.first(here.first.name)
        return -1.0 if seconds is None else here.left() - seconds

    def _send_apart(self, task: Task, request: Any, brought: list[str]) -> None:
        """Each of these by a message of its own: another process may have time for them."""
        if not brought:
            return
        saga_type, _ = saga_and_step(task.name)
        with together(self._engine.app) as producer:
            while brought:
                publish_route(
                    self._engine.app, brought.pop(0), saga_type, request[PACK]["route"], undo=False, producer=producer
                )

    def granted(self, saga_id: SagaId, step_name: str) -> Granted | None:
        """The claim that is made for this step of it already, or was asked for."""
        granted, self._message.granted = self._message.granted, None
        return granted if granted and (granted.saga_id, granted.step) == (saga_id, step_name) else None

    def gate(self, step_name: str, undo: bool) -> MayGoOn | None:
        """For the runner, at this step; None where there is no message that could go on."""
        here = self._message
        return partial(self._may_go_on, step_name, undo, here.hold is not None) if here.until else None

    def hold(self) -> Hold | None:
        """For the runner, at this step: who takes what is done, to be committed with others."""
        return self._message.hold

    def hand_on(self, request: Any) -> None:
        """The task of this request has succeeded: its chain's next message is made here and sent by this worker's main
        process; left in the request, and so to Celery, where that cannot be.
        """
        if self._message.outgoing is None or not request.chain:
            return
        following = self._outgoing.following(request)
        if following is not None:
            self._message.outgoing.append(following)
            request.chain = None

    def go_on(self, saga_type: str, then: Granted, undo: bool) -> None:
        """Run this when the task at hand is over."""
        self._message.then = (task_name(saga_type, then.step, undo), then)

    def patience(self) -> float:
        """How long the claim of the task at hand may wait for PostgreSQL."""
        return self._message.patience if self._message.until else CLAIM_PATIENCE

    def turn(self, saga_type: str, version: int, step_name: str) -> bool:
        """Whether this message goes on to `sagas.compensate`, which the failing step's link_error would publish.

        Its queue is another one: so only if this worker consumes that, too. And not from a message's first task, whose
        failure is the result that its main process gets: there is no room in it for what followed.
        """
        here = self._message
        if not here.until or not here.follows or time.monotonic() >= here.until or not self._engine.consuming:
            return False
        known = self._successors.known(saga_type, step_name, version)
        if known is None:
            return False
        saga, step = known
        if not saga.continuation or not step.continuation or self._engine.app.tasks[COMPENSATE].rate_limit:
            return False
        here.then = (COMPENSATE, None)
        return True

    def go_back(self, found: Mapping[str, Any] | None) -> bool:
        """Whether this message, `sagas.compensate`, goes on to the undo that is due (`saga_look`): on its own queue."""
        if not self._message.until or not found or not found["undo"]:
            return False
        hop = found["route"][0]
        known = self._successors.known(found["saga_type"], hop["step"], found["version"])
        task = self._successors.task(*known, True, COMPENSATIONS, None) if known else None
        # The row's queue: a step may name one by a field of the payload.
        if task is None or hop["queue"] != COMPENSATIONS:
            return False
        # The message may be a step's, whose hard limit it has (R12): the undo comes first, then patience at its claim.
        spare = self._message.left() - needed(task)
        if spare < 0:
            return False
        self._message.patience = min(spare, CLAIM_PATIENCE)
        self._message.then = (task.name, None)
        return True

    def _may_go_on(self, step_name: str, undo: bool, abreast: bool, saga_type: str, version: int) -> tuple[str, ...]:
        """The steps that may be claimed by a commit; `abreast`: and then wait until others have had their turn."""
        here = self._message
        here.acted = True
        if time.monotonic() >= here.until:
            return ()
        # Celery's hard limit is the message's: what is left of it must do for the next step and its commit (R12).
        left = here.left()
        after = self._successors.after(saga_type, version, step_name, undo)
        return tuple(one.step for one in after if one.seconds <= left and (one.waits or not abreast))


def _told(answer: Any, outgoing: Sequence[Raw], followed: Sequence[Told] = (), ended: float | None = None) -> Any:
    """What Celery's tracer answered, with what its worker's main process is to know besides."""
    if not followed and not outgoing:
        return answer
    text = Continued(answer.retstr)
    text.steps, text.outgoing = tuple(followed), tuple(outgoing)
    if followed:
        text.ended = ended
    return answer._replace(retstr=text)


class GoesOn:
    """Mixed into the app's own Task class, for step tasks and `sagas.compensate`: whoever traces one goes on.

    Celery gives each task its tracer by assignment, in every kind of pool; what it gets back runs the message.
    """

    app: Any
    tracer: Any = None

    @property
    def Request(self) -> Any:  # noqa: N802 - Celery's name
        """That of the app's own tasks, which also tells of the steps that followed. Only a worker asks."""
        from sagas.runtime.step_request import telling

        return telling(super().Request)  # type: ignore[misc]

    @property
    def __trace__(self) -> Any:
        if self.tracer is None:
            return None
        return partial(self.app.hodei_engine.continuation.trace, self, self.tracer)

    @__trace__.setter
    def __trace__(self, tracer: Any) -> None:
        self.tracer = tracer
