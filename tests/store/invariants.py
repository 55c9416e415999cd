"""What must hold of every saga after every transaction, asked of the rows and not of the engine's functions."""

from tests.store.lab import Lab

QUESTIONS = {
    "P3: live_claims is the number of steps with a lease, or with a child that they wait for (R10)": """
        SELECT s.saga_id FROM saga_instances s
        WHERE live_claims <> (SELECT count(*) FROM saga_steps t WHERE t.saga_id = s.saga_id
            AND (lease_until IS NOT NULL OR state = 'WAITING'))
    """,
    "R11: a live claim is found": """
        SELECT saga_id FROM saga_instances WHERE live_claims > 0 AND NOT claimed
    """,
    "P3, P5: a sequence has at most one live claim": """
        SELECT saga_id FROM saga_steps WHERE lease_until IS NOT NULL GROUP BY 1 HAVING count(*) > 1
    """,
    "P5: a live undo belongs to a saga that goes back, and so does nothing else that began there": """
        SELECT t.saga_id FROM saga_steps t JOIN saga_instances s USING (saga_id)
        WHERE t.lease_until IS NOT NULL AND t.phase = 'undo' AND s.state <> 'COMPENSATING'
    """,
    "P14, R6: what is not at its end is due, and not later than its claims' leases": """
        SELECT s.saga_id FROM saga_instances s JOIN saga_steps t USING (saga_id)
        WHERE s.state IN ('PENDING', 'IN_PROGRESS', 'COMPENSATING')
            AND (s.wake_at IS NULL OR s.wake_at > greatest(t.lease_until, saga_now() + interval '1 s'))
            AND (s.wake_at IS NULL OR t.lease_until IS NOT NULL)
    """,
    "R6: not later than the deadline, while there is a way back": """
        SELECT saga_id FROM saga_instances
        WHERE state IN ('PENDING', 'IN_PROGRESS') AND NOT pivot_open AND deadline IS NOT NULL
            AND wake_at > greatest(deadline, saga_now() + interval '1 s')
    """,
    "R6: a step that nobody holds is looked at within 5 s of when it may be begun": """
        SELECT s.saga_id FROM saga_instances s JOIN saga_steps t USING (saga_id)
        WHERE s.state IN ('PENDING', 'IN_PROGRESS') AND t.step_order = s.current_step AND s.live_claims = 0
            AND s.wake_at > greatest(saga_now(), t.not_before, s.quiet_at) + interval '5 s'
    """,
    "R22: a message that nobody has taken is looked for within 5 s": """
        SELECT s.saga_id FROM saga_instances s JOIN saga_steps t USING (saga_id)
        WHERE s.state IN ('PENDING', 'IN_PROGRESS') AND t.step_order = s.current_step AND s.live_claims = 0
            AND s.paused_at IS NULL AND t.published_at IS NOT NULL
            AND (t.look_at IS NULL OR t.look_at > greatest(saga_now(), t.not_before, s.quiet_at) + interval '5 s')
    """,
    "R6: the same of the next undo": """
        SELECT s.saga_id FROM saga_instances s, saga_next_undo(s.saga_id) t
        WHERE s.state = 'COMPENSATING' AND s.live_claims = 0
            AND s.wake_at > greatest(saga_now(), t.not_before, s.quiet_at) + interval '5 s'
    """,
    "P6: what is compensated, or cancelled, has nothing left to undo": """
        SELECT s.saga_id FROM saga_instances s JOIN saga_steps t USING (saga_id)
        WHERE s.state IN ('COMPENSATED', 'CANCELLED') AND t.undo_rank IS NOT NULL
    """,
    "P6: FAILED lists every effect that an undo would undo": """
        SELECT s.saga_id FROM saga_instances s JOIN saga_steps t USING (saga_id)
        WHERE s.state = 'FAILED' AND t.undo_rank IS NOT NULL
            AND NOT EXISTS (SELECT FROM jsonb_array_elements(s.outstanding) e WHERE e ->> 'step' = t.step_name)
    """,
    "P6, R1: what is done, or may have acted, and has an undo, is to be undone, whatever its state": """
        SELECT s.saga_id FROM saga_instances s JOIN saga_steps t USING (saga_id)
        WHERE t.has_compensation AND t.undo_rank IS NULL AND (t.state = 'COMPLETED' OR t.effect_possible)
    """,
    "COMPLETED: every step is": """
        SELECT s.saga_id FROM saga_instances s JOIN saga_steps t USING (saga_id)
        WHERE s.state = 'COMPLETED' AND t.state NOT IN ('COMPLETED', 'SKIPPED')
    """,
    "P9: at its end is what has ended, and nothing of it runs": """
        SELECT saga_id FROM saga_instances
        WHERE (state IN ('COMPLETED', 'COMPENSATED', 'CANCELLED', 'FAILED')) <> (completed_at IS NOT NULL)
            OR (completed_at IS NOT NULL AND live_claims <> 0)
    """,
    "P3: a step in progress has a live claim, and only what is in the middle of something has one": """
        SELECT saga_id FROM saga_steps
        WHERE (state = 'IN_PROGRESS' AND lease_until IS NULL)
            OR (lease_until IS NOT NULL AND state NOT IN ('IN_PROGRESS', 'UNKNOWN', 'COMPENSATING'))
    """,
    "a saga at its end has no step in the middle of something": """
        SELECT s.saga_id FROM saga_instances s JOIN saga_steps t USING (saga_id)
        WHERE s.completed_at IS NOT NULL AND t.state IN ('IN_PROGRESS', 'COMPENSATING', 'WAITING')
    """,
}


def check(lab: Lab, saga_id: object) -> None:
    """AssertionError with every promise that this saga breaks now."""
    union = " UNION ALL ".join(
        f"SELECT {number} AS n FROM ({sql}) q WHERE saga_id = %(id)s" for number, sql in NUMBERED
    )
    with lab.cursor() as cursor:
        cursor.execute(union, {"id": str(saga_id)})
        broken = sorted({row["n"] for row in cursor.fetchall()})
    assert not broken, [list(QUESTIONS)[number] for number in broken]


NUMBERED = list(enumerate(QUESTIONS.values()))
