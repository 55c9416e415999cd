"""The platform's tables as SQLAlchemy models. A state changes only by a named verb beside them.

The states are CHECKed and the invariants are partial unique indexes, each with its sentence; foreign keys RESTRICT,
so that deleting bookkeeping never deletes business rows (L20).
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    MetaData,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sagas import SagaType
from sagas.jobs.types import JobOutcome, JobState, WorkerState

NAMING = {
    "ix": "idx_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """The platform's own tables; the engine's are in `sagas.store.schema`."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {datetime: DateTime(timezone=True), str: Text, dict[str, Any]: JSONB, list[str]: ARRAY(Text)}  # noqa: RUF012


def one_of(states: Iterable[str]) -> str:
    """The list of an SQL IN."""
    return "(" + ", ".join(f"'{state}'" for state in states) + ")"


JOB_ENDS = tuple(state for state in JobState if state.is_terminal)
JOB_LIVE = (JobState.ASSIGNED, JobState.RUNNING)


class Provider(Base):
    """A place that workers come from: one host and one kind. Its steps run on the queue `provider.<host>`."""

    __tablename__ = "providers"
    __table_args__ = (
        UniqueConstraint("kind", "host", name="uq_providers_host"),
        CheckConstraint("capacity >= 0", name="capacity"),
    )

    provider_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    kind: Mapped[str]
    host: Mapped[str]
    capacity: Mapped[int] = mapped_column(comment="how many workers may exist at one time")
    enabled: Mapped[bool] = mapped_column(server_default=text("true"))
    labels: Mapped[dict[str, Any]] = mapped_column(
        server_default=text("'{}'"), comment="what its workers have besides their own labels"
    )
    cpu: Mapped[float | None] = mapped_column(comment="cores of all its workers together; null is no limit")
    memory: Mapped[int | None] = mapped_column(
        BigInteger, comment="bytes of all its workers together; null is no limit"
    )
    last_seen_at: Mapped[datetime | None] = mapped_column(comment="when its host last said something about it")
    healthy_until: Mapped[datetime | None] = mapped_column(
        comment="until then it makes workers; null: nobody has said yet"
    )
    trouble: Mapped[str | None] = mapped_column(comment="why it makes no workers, in its host's words")
    created_at: Mapped[datetime] = mapped_column(default=func.saga_now())


class Worker(Base):
    """A worker. It takes a slot of its provider from its reservation until it is TERMINATED."""

    __tablename__ = "workers"
    __table_args__ = (
        CheckConstraint(f"state IN {one_of(WorkerState)}", name="state"),
        CheckConstraint("state = 'TERMINATED' OR wake_at IS NOT NULL", name="wake_at"),
        CheckConstraint("state NOT IN ('READY', 'BUSY') OR registered_at IS NOT NULL", name="registered"),
        Index("idx_workers_slots", "provider_id", postgresql_where=text("state <> 'TERMINATED'")),
        Index("idx_workers_ready", "ready_at", postgresql_where=text("state = 'READY'")),
    )

    worker_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    provider_id: Mapped[uuid.UUID] = mapped_column(ForeignKey(Provider.provider_id, ondelete="RESTRICT"))
    state: Mapped[str]
    spec: Mapped[dict[str, Any]]
    reference: Mapped[str | None] = mapped_column(comment="the provider's own name for it, a pid for instance")
    token_hashes: Mapped[list[str]] = mapped_column(server_default=text("'{}'"), comment="SHA-256 of each token given")
    instance: Mapped[str | None] = mapped_column(comment="the agent that used the one-time token")
    owner_saga_id: Mapped[uuid.UUID | None] = mapped_column(
        comment="the execution saga that is about to use it; no foreign key: finished sagas are purged"
    )
    created_at: Mapped[datetime] = mapped_column(default=func.saga_now())
    registered_at: Mapped[datetime | None]
    ready_at: Mapped[datetime | None]
    last_seen_at: Mapped[datetime | None]
    terminated_at: Mapped[datetime | None]
    wake_at: Mapped[datetime | None] = mapped_column(
        comment="when somebody must look at it again; every state but the end"
    )


class Job(Base):
    """A job: what to run, where it stands, and which try of it counts."""

    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint(f"state IN {one_of(JobState)}", name="state"),
        CheckConstraint(f"state IN {one_of(JOB_ENDS)} OR wake_at IS NOT NULL", name="wake_at"),
        CheckConstraint(
            f"state NOT IN {one_of(JOB_LIVE)} OR (assignment_id IS NOT NULL AND worker_id IS NOT NULL)",
            name="assignment",
        ),
        CheckConstraint("state <> 'PENDING' OR assignment_id IS NULL", name="pending"),
        CheckConstraint("attempts BETWEEN 0 AND max_attempts", name="attempts"),
        # A worker runs one job at a time, whatever two dispatchers do.
        Index("uq_jobs_live_worker", "worker_id", unique=True, postgresql_where=text(f"state IN {one_of(JOB_LIVE)}")),
        # An assignment id names one try of one job: the fence of late results.
        Index("uq_jobs_assignment", "assignment_id", unique=True, postgresql_where=text("assignment_id IS NOT NULL")),
        # A caller that submits again with its key gets the first job.
        Index("uq_jobs_key", "idempotency_key", unique=True, postgresql_where=text("idempotency_key IS NOT NULL")),
        # What the dispatcher reads, in its order; its cost does not grow with history.
        Index("idx_jobs_pending", "priority", "created_at", postgresql_where=text("state = 'PENDING'")),
        # What the sweep of due jobs reads.
        Index("idx_jobs_wake_at", "wake_at", postgresql_where=text("wake_at IS NOT NULL")),
        Index("idx_jobs_created_at", "created_at"),
        # A worker that is being recovered is looked up with each of its heartbeats.
        Index("idx_jobs_lost", "lost_worker_id", postgresql_where=text("lost_worker_id IS NOT NULL")),
    )

    job_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    state: Mapped[str]
    command: Mapped[dict[str, Any]] = mapped_column(comment="argv, script, env, cwd, stdin, timeout (seconds)")
    requirements: Mapped[dict[str, Any]] = mapped_column(
        server_default=text("'{}'"),
        comment="labels and resources (cpu in cores, memory in bytes) that its worker must have",
    )
    priority: Mapped[int] = mapped_column(server_default=text("5"), comment="0 is the first, 9 the last")
    idempotency_key: Mapped[str | None]
    correlation_id: Mapped[str | None]
    actor: Mapped[str | None]
    round: Mapped[int] = mapped_column(server_default=text("0"), comment="makes the keys of its sagas")
    attempts: Mapped[int] = mapped_column(server_default=text("0"), comment="assignments that counted")
    max_attempts: Mapped[int] = mapped_column(server_default=text("3"))
    retry_failed: Mapped[bool] = mapped_column(
        server_default=text("false"),
        comment="whether a run that failed or took too long is repeated, while attempts are left",
    )
    not_before: Mapped[datetime | None] = mapped_column(comment="until then the dispatcher leaves it alone")
    blocked: Mapped[str | None] = mapped_column(comment="why no provider can make the worker that it asks for")
    cancel_requested_at: Mapped[datetime | None] = mapped_column(
        comment="it is not run again; its worker is told to stop it"
    )
    cancel_reason: Mapped[str | None]
    worker_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey(Worker.worker_id, ondelete="RESTRICT"))
    assignment_id: Mapped[uuid.UUID | None]
    owner_saga_id: Mapped[uuid.UUID | None] = mapped_column(
        comment="the saga that moves it: the dispatcher leaves it alone until that one has ended"
    )
    provisioning_saga_id: Mapped[uuid.UUID | None] = mapped_column(comment="the saga that makes a worker for it")
    awaited_worker_id: Mapped[uuid.UUID | None] = mapped_column(comment="the worker which that saga makes")
    lost_worker_id: Mapped[uuid.UUID | None] = mapped_column(
        comment="the silent worker from which a recovery saga has taken it"
    )
    lost_assignment_id: Mapped[uuid.UUID | None] = mapped_column(
        comment="its assignment there, good again if the saga is undone"
    )
    exit_code: Mapped[int | None]
    error: Mapped[str | None]
    log_lines: Mapped[int | None] = mapped_column(comment="how many rows of job_logs its agent has sent")
    created_at: Mapped[datetime] = mapped_column(default=func.saga_now())
    assigned_at: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    wake_at: Mapped[datetime | None] = mapped_column(
        comment="when somebody must look at it again; every state but the ends"
    )


class JobLog(Base):
    """A piece of a job's output as it was written, newlines included. The number makes a repeated message harmless."""

    __tablename__ = "job_logs"
    __table_args__ = (
        CheckConstraint("stream IN ('stdout', 'stderr')", name="stream"),
        UniqueConstraint("assignment_id", "line_number", name="uq_job_logs_line"),
    )

    log_id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    job_id: Mapped[uuid.UUID] = mapped_column(ForeignKey(Job.job_id, ondelete="RESTRICT"), index=True)
    assignment_id: Mapped[uuid.UUID]
    line_number: Mapped[int] = mapped_column(comment="1, 2, ... in each assignment")
    stream: Mapped[str]
    content: Mapped[str]
    logged_at: Mapped[datetime] = mapped_column(default=func.saga_now())


class JobResult(Base):
    """Every result that an agent has reported, by its assignment: a duplicate finds it, a refused one is kept (L33)."""

    __tablename__ = "job_results"
    __table_args__ = (CheckConstraint(f"outcome IN {one_of(JobOutcome)}", name="outcome"),)

    assignment_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    job_id: Mapped[uuid.UUID] = mapped_column(ForeignKey(Job.job_id, ondelete="RESTRICT"), index=True)
    worker_id: Mapped[uuid.UUID] = mapped_column(ForeignKey(Worker.worker_id, ondelete="RESTRICT"))
    outcome: Mapped[str]
    exit_code: Mapped[int | None]
    error: Mapped[str | None]
    log_lines: Mapped[int | None]
    counted: Mapped[bool] = mapped_column(comment="false: it came from an assignment that was no longer the job's")
    received_at: Mapped[datetime] = mapped_column(default=func.saga_now())


class Hearing(Base):
    """Since when something is listened to without a gap: silence before that says nothing."""

    __tablename__ = "hearings"

    name: Mapped[str] = mapped_column(primary_key=True)
    since: Mapped[datetime] = mapped_column(comment="from then on there was no gap")
    heard_at: Mapped[datetime] = mapped_column(comment="the last time that somebody listened")


class FeatureFlag(Base):
    """Which way one saga's work takes. A saga without a row has the flags as they come."""

    __tablename__ = "feature_flags"
    __table_args__ = (
        CheckConstraint(f"saga IN {one_of(SagaType)}", name="saga"),
        CheckConstraint("percent BETWEEN 0 AND 100", name="percent"),
        CheckConstraint("saga <> 'recovery' OR NOT shadow", name="shadow"),
    )

    saga: Mapped[str] = mapped_column(primary_key=True)
    enabled: Mapped[bool] = mapped_column(comment="false: all of it goes past the saga")
    percent: Mapped[float] = mapped_column(comment="of its keys, always the same ones, go through the saga if enabled")
    shadow: Mapped[bool] = mapped_column(comment="the saga runs without effect beside what goes past it")
    actor: Mapped[str] = mapped_column(comment="who changed it last")
    reason: Mapped[str] = mapped_column(comment="and why")
    changed_at: Mapped[datetime] = mapped_column(default=func.saga_now())


class ShadowComparison(Base):
    """One piece of work that went past its saga, and what the saga in its shadow would have made of it."""

    __tablename__ = "shadow_comparisons"
    __table_args__ = (
        CheckConstraint("(compared_at IS NULL) = (differences IS NULL)", name="compared"),
        # What still has to be compared, and the latest ones of a saga; neither cost grows with history.
        Index("idx_shadow_comparisons_open", "begun_at", postgresql_where=text("compared_at IS NULL")),
        Index("idx_shadow_comparisons_latest", "saga_type", "begun_at"),
    )

    run_id: Mapped[uuid.UUID] = mapped_column(primary_key=True, comment="of the assignment or the worker that it made")
    saga_type: Mapped[str]
    key: Mapped[str] = mapped_column(comment="by which the flag sent it past the saga")
    percent: Mapped[float] = mapped_column(comment="of the flag, when it began")
    saga_id: Mapped[uuid.UUID | None] = mapped_column(
        comment="the shadow; null if it could not be started. No foreign key: finished sagas are purged"
    )
    direct_outcome: Mapped[str | None] = mapped_column(comment="COMPLETED or FAILED; null while it goes on")
    direct_error: Mapped[str | None]
    direct_effects: Mapped[list[Any]] = mapped_column(JSONB, server_default=text("'[]'"), comment="what it did outside")
    saga_outcome: Mapped[str | None] = mapped_column(comment="the state in which the shadow ended")
    saga_error: Mapped[str | None]
    saga_effects: Mapped[list[Any]] = mapped_column(
        JSONB, server_default=text("'[]'"), comment="what it would have done outside"
    )
    differences: Mapped[dict[str, Any] | None] = mapped_column(comment="by name; empty: they agree")
    begun_at: Mapped[datetime] = mapped_column(default=func.saga_now())
    compared_at: Mapped[datetime | None]
