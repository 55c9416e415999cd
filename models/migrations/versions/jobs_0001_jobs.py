"""Jobs, their output and results; workers; providers.

Written out by hand: a migration must not change when the models do. `tests/platform/test_schema.py` compares the two.
"""

from datetime import datetime

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

revision = "jobs_0001"
down_revision = None
branch_labels = ("jobs",)
depends_on = "engine_0001"

JOB_STATES = "('PENDING', 'ASSIGNED', 'RUNNING', 'SUCCEEDED', 'FAILED', 'TIMED_OUT', 'CANCELLED')"
JOB_ENDS = "('SUCCEEDED', 'FAILED', 'TIMED_OUT', 'CANCELLED')"
JOB_LIVE = "('ASSIGNED', 'RUNNING')"
WORKER_STATES = "('CREATING', 'CONNECTING', 'READY', 'BUSY', 'DRAINING', 'TERMINATING', 'TERMINATED')"
OUTCOMES = "('succeeded', 'failed', 'timed_out', 'cancelled')"


def _time(name: str, comment: str | None = None, null: bool = True) -> sa.Column[datetime]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=null, comment=comment)


def upgrade() -> None:
    _providers()
    _workers()
    _jobs()
    _job_indexes()
    _job_logs()
    _job_results()


def _providers() -> None:
    op.create_table(
        "providers",
        sa.Column("provider_id", sa.Uuid, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("capacity", sa.Integer, nullable=False, comment="how many workers may exist at one time"),
        sa.Column("enabled", sa.Boolean, nullable=False, server_default=sa.text("true")),
        _time("created_at", null=False),
        sa.PrimaryKeyConstraint("provider_id", name="pk_providers"),
        sa.UniqueConstraint("kind", "host", name="uq_providers_host"),
        sa.CheckConstraint("capacity >= 0", name=op.f("ck_providers_capacity")),
    )


def _workers() -> None:
    op.create_table(
        "workers",
        sa.Column("worker_id", sa.Uuid, nullable=False),
        sa.Column("provider_id", sa.Uuid, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("spec", JSONB, nullable=False),
        sa.Column("reference", sa.Text, comment="the provider's own name for it, a pid for instance"),
        sa.Column(
            "token_hashes",
            ARRAY(sa.Text),
            nullable=False,
            server_default=sa.text("'{}'"),
            comment="SHA-256 of each token given",
        ),
        sa.Column("instance", sa.Text, comment="the agent that used the one-time token"),
        sa.Column(
            "owner_saga_id",
            sa.Uuid,
            comment="the execution saga that is about to use it; no foreign key: finished sagas are purged",
        ),
        _time("created_at", null=False),
        _time("registered_at"),
        _time("ready_at"),
        _time("last_seen_at"),
        _time("terminated_at"),
        _time("wake_at", "when somebody must look at it again; every state but the end"),
        sa.PrimaryKeyConstraint("worker_id", name="pk_workers"),
        sa.ForeignKeyConstraint(
            ["provider_id"], ["providers.provider_id"], name="fk_workers_provider_id", ondelete="RESTRICT"
        ),
        sa.CheckConstraint(f"state IN {WORKER_STATES}", name=op.f("ck_workers_state")),
        sa.CheckConstraint("state = 'TERMINATED' OR wake_at IS NOT NULL", name=op.f("ck_workers_wake_at")),
        sa.CheckConstraint(
            "state NOT IN ('READY', 'BUSY') OR registered_at IS NOT NULL", name=op.f("ck_workers_registered")
        ),
    )
    op.create_index("idx_workers_slots", "workers", ["provider_id"], postgresql_where=sa.text("state <> 'TERMINATED'"))
    op.create_index("idx_workers_ready", "workers", ["ready_at"], postgresql_where=sa.text("state = 'READY'"))


def _jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("job_id", sa.Uuid, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("command", JSONB, nullable=False, comment="argv, env, cwd, stdin, timeout (seconds)"),
        sa.Column(
            "priority", sa.Integer, nullable=False, server_default=sa.text("5"), comment="0 is the first, 9 the last"
        ),
        sa.Column("idempotency_key", sa.Text),
        sa.Column("correlation_id", sa.Text),
        sa.Column("actor", sa.Text),
        sa.Column(
            "round", sa.Integer, nullable=False, server_default=sa.text("0"), comment="makes the keys of its sagas"
        ),
        sa.Column(
            "attempts", sa.Integer, nullable=False, server_default=sa.text("0"), comment="assignments that counted"
        ),
        sa.Column("max_attempts", sa.Integer, nullable=False, server_default=sa.text("3")),
        sa.Column("worker_id", sa.Uuid),
        sa.Column("assignment_id", sa.Uuid),
        sa.Column(
            "owner_saga_id",
            sa.Uuid,
            comment="the saga that moves it: the dispatcher leaves it alone until that one has ended",
        ),
        sa.Column("provisioning_saga_id", sa.Uuid, comment="the saga that makes a worker for it"),
        sa.Column("awaited_worker_id", sa.Uuid, comment="the worker which that saga makes"),
        sa.Column("exit_code", sa.Integer),
        sa.Column("error", sa.Text),
        sa.Column("log_lines", sa.Integer, comment="how many rows of job_logs its agent has sent"),
        _time("created_at", null=False),
        _time("assigned_at"),
        _time("started_at"),
        _time("finished_at"),
        _time("wake_at", "when somebody must look at it again; every state but the ends"),
        sa.PrimaryKeyConstraint("job_id", name="pk_jobs"),
        sa.ForeignKeyConstraint(["worker_id"], ["workers.worker_id"], name="fk_jobs_worker_id", ondelete="RESTRICT"),
        sa.CheckConstraint(f"state IN {JOB_STATES}", name=op.f("ck_jobs_state")),
        sa.CheckConstraint(f"state IN {JOB_ENDS} OR wake_at IS NOT NULL", name=op.f("ck_jobs_wake_at")),
        sa.CheckConstraint(
            f"state NOT IN {JOB_LIVE} OR (assignment_id IS NOT NULL AND worker_id IS NOT NULL)",
            name=op.f("ck_jobs_assignment"),
        ),
        sa.CheckConstraint("state <> 'PENDING' OR assignment_id IS NULL", name=op.f("ck_jobs_pending")),
        sa.CheckConstraint("attempts BETWEEN 0 AND max_attempts", name=op.f("ck_jobs_attempts")),
    )


def _job_indexes() -> None:
    indexes = [
        # A worker runs one job at a time, whatever two dispatchers do.
        ("uq_jobs_live_worker", ["worker_id"], True, f"state IN {JOB_LIVE}"),
        # An assignment id names one try of one job: the fence of late results.
        ("uq_jobs_assignment", ["assignment_id"], True, "assignment_id IS NOT NULL"),
        # A caller that submits again with its key gets the first job.
        ("uq_jobs_key", ["idempotency_key"], True, "idempotency_key IS NOT NULL"),
        # What the dispatcher reads, in its order; its cost does not grow with history.
        ("idx_jobs_pending", ["priority", "created_at"], False, "state = 'PENDING'"),
    ]
    for name, columns, unique, where in indexes:
        op.create_index(name, "jobs", columns, unique=unique, postgresql_where=sa.text(where))
    op.create_index("idx_jobs_created_at", "jobs", ["created_at"])
    comments = {
        "uq_jobs_live_worker": "a worker runs one job at a time, whatever two dispatchers do",
        "uq_jobs_assignment": "an assignment names one try of one job: the fence of late results",
        "uq_jobs_key": "a caller that submits again with its key gets the first job",
    }
    for name, sentence in comments.items():
        op.execute(f"COMMENT ON INDEX {name} IS '{sentence}'")


def _job_logs() -> None:
    op.create_table(
        "job_logs",
        sa.Column("log_id", sa.Integer, sa.Identity(), nullable=False),
        sa.Column("job_id", sa.Uuid, nullable=False),
        sa.Column("assignment_id", sa.Uuid, nullable=False),
        sa.Column("line_number", sa.Integer, nullable=False, comment="1, 2, ... in each assignment"),
        sa.Column("stream", sa.Text, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        _time("logged_at", null=False),
        sa.PrimaryKeyConstraint("log_id", name="pk_job_logs"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.job_id"], name="fk_job_logs_job_id", ondelete="RESTRICT"),
        sa.UniqueConstraint("assignment_id", "line_number", name="uq_job_logs_line"),
        sa.CheckConstraint("stream IN ('stdout', 'stderr')", name=op.f("ck_job_logs_stream")),
    )
    op.create_index("idx_job_logs_job_id", "job_logs", ["job_id"])


def _job_results() -> None:
    op.create_table(
        "job_results",
        sa.Column("assignment_id", sa.Uuid, nullable=False),
        sa.Column("job_id", sa.Uuid, nullable=False),
        sa.Column("worker_id", sa.Uuid, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("exit_code", sa.Integer),
        sa.Column("error", sa.Text),
        sa.Column("log_lines", sa.Integer),
        sa.Column(
            "counted",
            sa.Boolean,
            nullable=False,
            comment="false: it came from an assignment that was no longer the job's",
        ),
        _time("received_at", null=False),
        sa.PrimaryKeyConstraint("assignment_id", name="pk_job_results"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.job_id"], name="fk_job_results_job_id", ondelete="RESTRICT"),
        sa.ForeignKeyConstraint(
            ["worker_id"], ["workers.worker_id"], name="fk_job_results_worker_id", ondelete="RESTRICT"
        ),
        sa.CheckConstraint(f"outcome IN {OUTCOMES}", name=op.f("ck_job_results_outcome")),
    )
    op.create_index("idx_job_results_job_id", "job_results", ["job_id"])


def downgrade() -> None:
    for table in ("job_results", "job_logs", "jobs", "workers", "providers"):
        op.drop_table(table)
