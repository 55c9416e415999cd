"""Planted defects: small changes of the engine, made at run time in the system under test only.

`sql` replaces text in the product's own functions, in that database; `patched` ones are monkeypatches of the runtime in
`tests.chaos.planted`. A text that is no longer in the product is an error: the defect must be planted anew.
"""

from dataclasses import dataclass
from pathlib import Path

import sagas.store

SQL = Path(sagas.store.__file__).parent / "sql"
_UNGUARDED = "ALTER TABLE saga_instances DROP CONSTRAINT saga_instances_wake"


@dataclass(frozen=True)
class Defect:
    """`drill` names the function of `tests.chaos.drills` that must see it."""

    name: str
    promise: str
    what: str
    drill: str
    sql: tuple[tuple[str, str, str], ...] = ()
    """(function, text, what stands there instead)."""
    patched: bool = False
    unguarded: bool = False
    """Planted without the table's CHECK, which would refuse a second claim by itself."""

    def statements(self) -> list[str]:
        """The changed functions; ValueError if the product has changed."""
        bodies: dict[str, str] = {}
        for function, text, instead in self.sql:
            body = bodies.get(function) or _source(function)
            if text not in body:
                raise ValueError(f"defect {self.name!r}: {function} has no longer the text {text!r}")
            bodies[function] = body.replace(text, instead)
        return [*bodies.values(), *([_UNGUARDED] if self.unguarded else [])]


def _source(function: str) -> str:
    (path,) = SQL.glob(f"*_{function}.sql")
    return path.read_text()


_LIVE = "IF s.live_claims > 0 THEN\n        PERFORM saga_rewake(p_saga);\n        RETURN 'wait';\n    END IF;\n    LOOP"
_UNHELD = (
    ("saga_undo_next", _LIVE, "LOOP"),
    ("saga_look", "IF s.live_claims > 0 OR t.not_before", "IF t.not_before"),
    ("saga_claim_step", "WHEN p_undo AND s.live_claims > 0 THEN 'claimed'", ""),
)
"""Nothing that is still running holds up an undo."""
_ACTIVE = "WHERE i.saga_id = p_saga AND i.state IN ('PENDING', 'IN_PROGRESS', 'COMPENSATING')"
_ENDED = """\
    IF s.state IN ('COMPLETED', 'COMPENSATED', 'CANCELLED', 'FAILED') THEN RETURN '{"verdict": "terminal"}'; END IF;"""
_DROPPED = "RETURN jsonb_build_object('verdict', 'late', 'next', 'wait');"
_TURN = "WHERE saga_id = p_saga AND state = 'IN_PROGRESS' RETURNING * INTO s;"
_TURN_ANY = "completed_at = NULL, wake_at = saga_now() WHERE saga_id = p_saga RETURNING * INTO s;"

DEFECTS = (
    Defect("start answers before its row is on disk", "P1", "sagas.start rolls back", "starts", patched=True),
    Defect("reconcile off", "P2", "the tick does nothing", "flushed", patched=True),
    Defect("published before its commit", "P2", "the first message is out before its row", "quick", patched=True),
    Defect(
        "fence removed",
        "P3",
        "a commit is accepted whatever its attempt",
        "silent_worker",
        (
            ("saga_commit", "ELSIF t.attempt_id IS DISTINCT FROM p_attempt THEN", "ELSIF false THEN"),
            ("saga_done", "AND attempt_id = p_attempt\n", "\n"),
        ),
    ),
    Defect(
        "claim not exclusive",
        "P3",
        "a live claim is overwritten",
        "doubled",
        (
            ("saga_claim_step", "WHEN t.lease_until IS NOT NULL THEN 'claimed'", ""),
            ("saga_claim_step", "WHEN v_phase = 'forward' AND t.state <> 'PENDING' THEN 'done'", ""),
            ("saga_claim_forward", "AND state = 'PENDING'\n", "\n"),
        ),
        unguarded=True,
    ),
    Defect(
        "at-most-once forgotten",
        "P4",
        "a lost attempt of a non-idempotent step is run again",
        "losses",
        (("saga_settle_forward", "v_lost AND (NOT t.idempotent OR", "v_lost AND ("),),
    ),
    Defect(
        "attempt not counted",
        "P4",
        "a claim spends no attempt",
        "losses",
        (("saga_claim_forward", "attempt = attempt + 1,", "attempt = greatest(attempt, 1),"),),
    ),
    Defect(
        "undo beside a running step",
        "P5",
        "going back does not wait for live claims",
        "cancelled_in_a_step",
        _UNHELD,
        unguarded=True,
    ),
    Defect(
        "a child's undo is not waited for",
        "P6",
        "the parent goes on while its child still goes back",
        "families",
        (("saga_child_undo", "c.state IN ('COMPENSATED', 'CANCELLED') THEN", "c.state <> 'FAILED' THEN"),),
    ),
    Defect(
        "a child outlives its parent",
        "P5",
        "going back does not cancel the child, and does not wait for it",
        "families",
        (
            ("saga_go_back", "WHERE saga_id = p_saga AND state = 'WAITING';", "WHERE false;"),
            *_UNHELD,
        ),
        unguarded=True,
    ),
    Defect(
        "compensation order reversed",
        "P6",
        "the earliest effect is undone first",
        "losses",
        (
            ("saga_undo_first", "ORDER BY undo_rank DESC", "ORDER BY undo_rank"),
            ("saga_route", "ORDER BY undo_rank DESC", "ORDER BY undo_rank"),
        ),
    ),
    Defect(
        "unknown treated as failed",
        "P6",
        "a lost attempt leaves no possible effect",
        "losses",
        (("saga_settle_forward", "t.effect_possible OR v_lost OR", "t.effect_possible OR"),),
    ),
    Defect(
        "late effect ignored",
        "P7",
        "a late report is dropped",
        "silent_worker",
        (("saga_late", "PERFORM saga_note(s, 'LateEffect', t.step_name, v_entry);", _DROPPED),),
    ),
    Defect(
        "expiry not written",
        "P7",
        "a lease that ran out is not taken over",
        "hung_worker",
        (("saga_look", "AND lease_until <= v_now\n", "AND false\n"),),
    ),
    Defect(
        "event not written",
        "P8",
        "the undo of a step has no event",
        "losses",
        (
            (
                "saga_settle_undo",
                "saga_note(s, 'StepCompensated', t.step_name, jsonb_build_object('attempt', t.undo_attempt));",
                "NULL;",
            ),
            ("saga_undone", "v_event := saga_append(v_stream, 'StepCompensated',", "v_event := length("),
            (
                "saga_undone",
                "jsonb_build_object('attempt', v_attempt), p_saga, v_correlation,\n        p_step, v_actor);",
                "p_step);",
            ),
        ),
    ),
    Defect(
        "terminal not terminal",
        "P9",
        "a cancel turns a COMPLETED saga round",
        "starts",
        (
            ("saga_cancel", _ENDED, ""),
            ("saga_cancel", 'IF s.pivot_passed THEN RETURN \'{"verdict": "past_pivot"}\'; END IF;', ""),
            ("saga_go_back", "cancel_requested = NULL\n    " + _TURN, "cancel_requested = NULL,\n    " + _TURN_ANY),
        ),
    ),
    Defect(
        "messages are believed",
        "P10",
        "a stray message begins a step whose turn it is not",
        "doubled",
        (("saga_claim", "ELSE t.stage = s.current_step END", "ELSE true END"),),
        unguarded=True,
    ),
    Defect("errback believed", "P10", "link_error turns a saga round", "doubled", patched=True),
    Defect(
        "key uniqueness dropped",
        "P11",
        "a key is not written",
        "one_key",
        (("saga_create", "p_actor, key,", "p_actor, NULL,"), ("saga_start", "p_actor, p_key,", "p_actor, NULL,")),
    ),
    Defect(
        "a message lost with its sagas",
        "P2",
        "who was brought by a message is watched by its first saga for ever",
        "packed",
        (("saga_packed", "AND b.state = 'PENDING' AND f.state = 'PENDING' AND f.not_before IS NULL\n", "\n"),),
    ),
    Defect(
        "a pack counted by its sagas",
        "P13",
        "each saga that a message brings is counted as one that lacks its own",
        "backlog",
        (("saga_waiting", "'needed', w.own", "'needed', w.n"),),
    ),
    Defect(
        "nobody comes where one takes long",
        "P13",
        "sagas side by side wait for the slowest of them",
        "abreast",
        patched=True,
    ),
    Defect("a backlog is taken for lost", "P13", "messages are sent again by their age", "backlog", patched=True),
    Defect(
        "lost wake",
        "P14",
        "a saga that waits has no due time",
        "flushed",
        (("saga_rewake", _ACTIVE, "WHERE false; UPDATE saga_instances i SET wake_at = 'infinity' " + _ACTIVE),),
    ),
)
