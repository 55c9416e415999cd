"""The engine's statements: one method, one SQL function, one round trip, one transaction of its own.

The rules are in the functions (`sagas/store/sql`); this file gives and takes plain values.
"""

from __future__ import annotations

import os
import uuid
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import psycopg2
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from sagas.errors import StorageUnavailable
from sagas.jsontext import to_json
from sagas.results import DomainEvent
from sagas.settings import LEASE_MARGIN
from sagas.store.answers import PLAIN_GRANT, Backlog, Looked
from sagas.store.requests import Attempt, Claimant, Onward, StartRequest
from sagas.store.wire import array, execute_on, first_line, is_held_up, is_trouble, translate, waited_in_vain
from sagas.types import SagaId

T = TypeVar("T")

START = "SELECT saga_start(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
START_MANY = "SELECT saga_start_many(%s, %s, %s, %s, %s, %s)"
CLAIM = "SELECT saga_claim(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
CLAIM_MANY = "SELECT saga_claim_many(%s::uuid[], %s, %s, %s::uuid[], %s, %s, %s, %s, %s, %s)"
DONE = "SELECT saga_done("
COMMIT_MANY = "SELECT saga_commit_many(%s::uuid[], %s, %s::uuid[], %s::text[], %s::text[], %s::text[], %s::uuid[], %s)"
UNDONE = "SELECT saga_undone("
COMMIT = "SELECT saga_commit(%s, %s, %s, %s, %s, %s, %s, %s, %s)"
EVENT = "SELECT saga_event(%s, %s, %s, %s, %s, %s, %s)"


class Store:
    """Every statement of the engine. Errors of the connection are `StorageUnavailable`: trouble, never an outcome."""

    def __init__(self, engine: sa.Engine, schema: str | None = None, *, keeps: bool = False) -> None:
        """`schema` is where the tables are, for statements on a session of somebody else, who may not look there. If it
        `keeps` a connection, one stays out of the pool: for a process whose calls mostly come one by one. To take it
        from there and to give it back takes an idle process as long as a short statement does.
        """
        self._engine = engine
        self.keeps = keeps
        self._kept: list[Any] = []
        self._parents: list[Any] = []
        _STORES.add(self)
        self._where = "" if schema is None else '"{}".'.format(schema.replace('"', '""').replace("%", "%%"))

    @property
    def engine(self) -> sa.Engine:
        return self._engine

    def forget_connections(self) -> None:
        """In a forked child: what its parent has must not be shared, nor closed, and so not be collected either."""
        self._parents += [self._engine.pool, self._kept]
        self._kept = []
        self._engine.dispose(close=False)

    def start(self, request: StartRequest, *, session: Any = None) -> dict[str, Any]:
        """`{"saga_id", "created", "state", "route"}`; with `session` in the caller's own transaction.

        Raises OtherRoute where the request has another route.
        """
        if session is not None:
            return dict(self._inside(session, START, request.parameters()))
        return dict(self._call(START, request.parameters()))

    def start_many(self, requests: Sequence[StartRequest], *, session: Any = None) -> list[dict[str, Any]]:
        """What `start` answers for each, in one transaction: all of them or none.

        They differ in payload, key, id and whose message brings them; the rest is that of the first one.
        """
        first = requests[0]
        items = [
            {
                "payload": one.payload,
                "key": one.idempotency_key,
                "saga_id": str(one.saga_id or SagaId.new()),
                "brought_by": str(one.brought_by) if one.brought_by else None,
            }
            for one in requests
        ]
        saga_type, _, _, correlation_id, actor, _, metadata, _, published, _ = first.parameters()
        parameters = (saga_type, to_json(items), correlation_id, actor, metadata, published)
        if session is not None:
            return list(self._inside(session, START_MANY, parameters))
        return list(self._call(START_MANY, parameters))

    def claim(self, saga_id: SagaId, step: str, undo: bool, attempt_id: uuid.UUID, by: Claimant) -> dict[str, Any]:
        """`{"verdict": "granted", ...}` with what the step needs, or another verdict that says why not."""
        answer = self._call(CLAIM, (str(saga_id), step, undo, str(attempt_id), *by.parameters()))
        return _granted(answer)

    def claim_many(
        self, sagas: Mapping[SagaId, uuid.UUID], version: int, step: str, by: Claimant
    ) -> list[dict[str, Any] | None]:
        """What `claim` answers for this step of each saga as that attempt; None for one of another version, for a last
        attempt, and where the row is held just now.
        """
        ids, attempts = array(sagas), array(sagas.values())
        answers = self._call(CLAIM_MANY, (ids, version, step, attempts, *by.parameters()))
        return [_granted(answer) if answer else None for answer in answers]

    def commit(
        self,
        saga_id: SagaId,
        step: str,
        attempt_id: uuid.UUID,
        outcome: str,
        *,
        output: Any = None,
        error: Mapping[str, Any] | None = None,
        events: list[tuple[str, dict[str, Any]]] | None = None,
        retry_in: float | None = None,
        ride: bool = False,
        onward: Onward | None = None,
        undo: bool = False,
        session: Any = None,
    ) -> dict[str, Any]:
        """`{"verdict", "next", "route"}`, of a step or of its `undo`; with `session` in that transaction, at its end.

        With `onward` what comes next is claimed, too, if it is one of those: `"then"`, as `claim` answers without its
        saga.
        """
        sql = COMMIT
        ids = (str(saga_id), step, str(attempt_id))
        parameters: tuple[Any, ...]
        if outcome == "done":
            parameters = (*ids, to_json(output), ride, LEASE_MARGIN)
            # No more than are needed: each is text that the client makes and the server parses.
            if onward is not None or events:
                parameters += (array(onward.steps), str(onward.attempt_id)) if onward else (None, None)
            if events:
                parameters += (to_json(events),)
            sql = (UNDONE if undo else DONE) + ", ".join(["%s"] * len(parameters)) + ")"
        else:
            problem = to_json(error) if error else None
            parameters = (*ids, outcome, to_json(output), problem, to_json(events or []), retry_in, ride)
        answer = self._call(sql, parameters) if session is None else self._inside(session, sql, parameters)
        return _committed(answer)

    def commit_many(self, attempts: Sequence[Attempt]) -> list[dict[str, Any] | None]:
        """What `commit` answers for each, with one commit for all; None where the saga's row is held just now."""
        sagas, steps, ids, outputs, events, onwards = zip(*attempts, strict=True)
        parameters = (
            array(sagas),
            array(steps),
            array(ids),
            array(outputs),
            array([to_json(one) if one else None for one in events]),
            array([one.steps[0] if one else None for one in onwards]),
            array([one.attempt_id if one else None for one in onwards]),
            LEASE_MARGIN,
        )
        return [answer and _committed(answer) for answer in self._call(COMMIT_MANY, parameters)]

    def prepare_undo(self, saga_id: SagaId, step: str, attempt_id: uuid.UUID, data: Any) -> bool:
        """False if the attempt is no longer the current one."""
        return bool(
            self._call("SELECT saga_prepare_undo(%s, %s, %s, %s)", (str(saga_id), step, str(attempt_id), to_json(data)))
        )

    def take_over(self, saga_id: SagaId, step: str, attempt_id: uuid.UUID, why: str, *, early: bool = False) -> str:
        """Write a live claim as lost; what comes next, or `gone`. `early`: its node is silent, and may only be hung."""
        parameters = (str(saga_id), step, str(attempt_id), why, early)
        return str(self._call("SELECT saga_take_over(%s, %s, %s, %s, %s)", parameters))

    def silent_claims(self, beat: float, dead: float) -> list[dict[str, Any]]:
        """`{"saga_id", "step", "attempt_id", "node"}` of claims that may be taken over early (seconds)."""
        return list(self._call("SELECT saga_silent(%s, %s)", (beat, dead)))

    def node_beat(self, by: Claimant, queues: list[str]) -> float:
        """The node of this claimant is alive and consumes these queues. Seconds since reconcile ran."""
        parameters = (str(by.incarnation), by.node, by.host, by.pid, queues)
        return float(self._call("SELECT saga_node_beat(%s, %s, %s, %s, %s::text[])", parameters) or 0.0)

    def cancel(self, saga_id: SagaId, reason: str, actor: str | None) -> dict[str, Any]:
        """`{"verdict": cancelled | compensating | noted | past_pivot | terminal | unknown_saga, "publish": ...}`."""
        return dict(self._call("SELECT saga_cancel(%s, %s, %s)", (str(saga_id), reason, actor)))

    def pause(self, saga_id: SagaId, pause: bool, reason: str | None, actor: str | None) -> dict[str, Any]:
        """`{"verdict": paused | resumed | already | terminal | unknown_saga, "publish": ...}`."""
        return dict(self._call("SELECT saga_pause(%s, %s, %s, %s)", (str(saga_id), pause, reason, actor)))

    def mend(
        self,
        saga_id: SagaId,
        verb: str,
        step: str,
        attempt_id: uuid.UUID | None,
        *,
        output: Any = None,
        reason: str | None = None,
        actor: str | None = None,
    ) -> dict[str, Any]:
        """A person's `retry`, `skip` or `force` of a FAILED saga's step; the verdict, and what is to be published."""
        attempt = str(attempt_id) if attempt_id else None
        parameters = (str(saga_id), verb, step, attempt, to_json(output), reason, actor)
        return dict(self._call("SELECT saga_mend(%s, %s, %s, %s, %s, %s, %s)", parameters))

    def hint(self, saga_id: SagaId) -> dict[str, Any] | None:
        """What is to be published for this saga now, if nobody has published it."""
        found = self._call("SELECT saga_hint(%s)", (str(saga_id),))
        return dict(found) if found else None

    def reconcile(self, limit: int) -> Looked | None:
        """Move what is due; how many were looked at, and what is to be published. None while another one runs."""
        answer = self._call("SELECT saga_reconcile(%s, %s)", (limit, LEASE_MARGIN))
        if answer is None:
            return None
        backlogs = {queue: Backlog(**one) for queue, one in answer["backlogs"].items()}
        return Looked(answer["looked_at"], answer["found"], backlogs)

    def put_right(self, limit: int) -> int:
        """The timers of sagas that are due before anything of them is; how many, of so many that were asked."""
        return int(self._call("SELECT saga_put_right(%s)", (limit,)))

    def waiting(self, queues: list[str]) -> dict[str, tuple[int, int]]:
        """How many sagas wait for a message in each of these queues, and how many messages they need."""
        answer = self._call("SELECT saga_waiting(%s)", (queues,))
        return {queue: (one["waiting"], one["needed"]) for queue, one in answer.items()}

    def backlog(self, queue: str, waiting: int, needed: int, depth: int) -> None:
        """Put on record what was counted of a queue just now; with nobody waiting, off the record."""
        self._call("SELECT saga_backlog(%s, %s, %s, %s)", (queue, waiting, needed, depth))

    def call_in(self, queue: str, seconds: float, limit: int) -> int:
        """Make due what was put off for more than so many seconds in this queue; how many sagas."""
        return int(self._call("SELECT saga_call_in(%s, %s, %s)", (queue, seconds, limit)))

    def put_off(self, queue: str, seconds: float, limit: int) -> int:
        """Look later at what only waits in this queue, whose messages are all there; how many sagas."""
        return int(self._call("SELECT saga_put_off(%s, %s, %s)", (queue, seconds, limit)))

    def lost(self, saga_id: SagaId, most: int) -> bool:
        """Whether the saga's message is to be sent again; after `most` times that nobody claimed the saga is parked."""
        return bool(self._call("SELECT saga_lost(%s, %s)", (str(saga_id), most), repeat=False))

    def renew(self, saga_id: SagaId, step: str, attempt_id: uuid.UUID, seconds: float) -> bool:
        """Let the claim live for so many more seconds; false if it is gone."""
        return bool(self._call("SELECT saga_renew(%s, %s, %s, %s)", (str(saga_id), step, str(attempt_id), seconds)))

    def live_claims_of(self, host: str) -> list[tuple[SagaId, str, uuid.UUID, int, float]]:
        """(saga, step, attempt id, pid, process start) of every live claim whose process is on this host."""

        def read(cursor: Any) -> list[Any]:
            cursor.execute(
                "SELECT saga_id, step_name, attempt_id, claim_pid, claim_started FROM saga_claimed()"
                " WHERE claim_host = %s AND claim_pid IS NOT NULL",
                (host,),
            )
            return list(cursor.fetchall())

        return [(SagaId(a), b, uuid.UUID(str(c)), d, e) for a, b, c, d, e in self._run(read)]

    def outputs(self, saga_id: SagaId) -> dict[str, Any]:
        """Outputs of every step that has one, by step name."""
        return dict(
            self._call(
                "SELECT coalesce(jsonb_object_agg(step_name, output_data), '{}') FROM saga_steps"
                " WHERE saga_id = %s AND output_data IS NOT NULL",
                (str(saga_id),),
            )
        )

    def record_event(self, event: DomainEvent, *, session: Any = None) -> int:
        """Append one event; the caller's transaction holds the lock of its stream's row."""
        parameters = (
            event.stream,
            event.event_type,
            to_json(event.payload),
            str(event.saga_id) if event.saga_id else None,
            event.correlation_id,
            event.step_name,
            event.actor,
        )
        if session is not None:
            return int(self._inside(session, EVENT, parameters))
        return int(self._call(EVENT, parameters, repeat=False))

    def _inside(self, session: Any, sql: str, parameters: tuple[Any, ...]) -> Any:
        """In the caller's transaction; the functions themselves know where their tables are."""
        return execute_on(session, sql.replace("SELECT ", f"SELECT {self._where}", 1), parameters)

    def _call(self, sql: str, parameters: tuple[Any, ...], *, repeat: bool = True) -> Any:
        """The one value of a one-row answer; jsonb comes decoded."""

        def one(cursor: Any) -> Any:
            cursor.execute(sql, parameters)
            return cursor.fetchone()[0]

        try:
            return self._run(one)
        except StorageUnavailable as error:
            if not repeat or isinstance(error.__cause__, PoolTimeout) or waited_in_vain(error):
                raise
            if not is_held_up(error):
                # A stale connection, and so may all others be, or a lost reply: ids make the same question safe (R5).
                kept, self._kept = self._kept, []
                for pooled in kept:
                    pooled.invalidate()
                self._engine.dispose()
            return self._run(one)

    def _run(self, work: Callable[[Any], T]) -> T:
        """One autocommitted transaction on a pooled connection, without SQLAlchemy's statement machinery.

        Nor its AUTOCOMMIT: giving that back sets the isolation level, which is a round trip of its own.
        """
        try:
            pooled = self._connection()
            raw: Any = pooled.dbapi_connection
            try:
                raw.autocommit = True
                with raw.cursor() as cursor:
                    return work(cursor)
            except psycopg2.Error as error:
                if is_trouble(raw, error):
                    if not is_held_up(error):
                        pooled.invalidate()
                    raise StorageUnavailable(f"PostgreSQL does not answer: {first_line(error)}") from error
                raise translate(error) from error
            finally:
                if self.keeps and not self._kept and pooled.is_valid and not raw.closed:
                    self._kept.append(pooled)
                else:
                    if pooled.is_valid and not raw.closed:
                        raw.autocommit = False
                    pooled.close()
        except (DBAPIError, PoolTimeout, psycopg2.OperationalError, psycopg2.InterfaceError) as error:
            # SQLAlchemy wraps what its own statements meet, but not what giving the connection back to the pool does.
            cause = error.orig if isinstance(error, DBAPIError) else error
            raise StorageUnavailable(f"PostgreSQL does not answer: {first_line(cause)}") from error

    def _connection(self) -> Any:
        try:
            return self._kept.pop()
        except IndexError:  # it never was there, or another thread has it
            return self._engine.raw_connection()


_STORES: weakref.WeakSet[Store] = weakref.WeakSet()


def _after_a_fork() -> None:
    for store in _STORES:
        store.forget_connections()


os.register_at_fork(after_in_child=_after_a_fork)


def _granted(answer: Mapping[str, Any]) -> dict[str, Any]:
    """What a claim answered, in full."""
    return {**PLAIN_GRANT, **answer} if answer["verdict"] == "granted" else dict(answer)


def _committed(answer: dict[str, Any]) -> dict[str, Any]:
    """What a commit answered, its claim in full."""
    if "then" in answer:
        answer["then"] = {**PLAIN_GRANT, **answer["then"]}
    return answer
