"""The sagas' flags, and comparisons of what goes past a saga with the saga in its shadow."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "jobs_0005"
down_revision = "jobs_0004"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "feature_flags",
        sa.Column("saga", sa.Text, nullable=False),
        sa.Column("enabled", sa.Boolean, nullable=False, comment="false: all of it goes past the saga"),
        sa.Column(
            "percent",
            sa.Float,
            nullable=False,
            comment="of its keys, always the same ones, go through the saga if enabled",
        ),
        sa.Column(
            "shadow", sa.Boolean, nullable=False, comment="the saga runs without effect beside what goes past it"
        ),
        sa.Column("actor", sa.Text, nullable=False, comment="who changed it last"),
        sa.Column("reason", sa.Text, nullable=False, comment="and why"),
        sa.Column("changed_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("saga", name="pk_feature_flags"),
        sa.CheckConstraint("saga IN ('provisioning', 'execution', 'recovery')", name="ck_feature_flags_saga"),
        sa.CheckConstraint("percent BETWEEN 0 AND 100", name="ck_feature_flags_percent"),
        sa.CheckConstraint("saga <> 'recovery' OR NOT shadow", name="ck_feature_flags_shadow"),
    )
    _create_comparisons()
    op.create_index(
        "idx_shadow_comparisons_open",
        "shadow_comparisons",
        ["begun_at"],
        postgresql_where=sa.text("compared_at IS NULL"),
    )
    op.create_index("idx_shadow_comparisons_latest", "shadow_comparisons", ["saga_type", "begun_at"])


def _create_comparisons() -> None:
    shadow = "the shadow; null if it could not be started. No foreign key: finished sagas are purged"
    none = sa.text("'[]'")
    op.create_table(
        "shadow_comparisons",
        sa.Column("run_id", sa.Uuid, nullable=False, comment="of the assignment or the worker that it made"),
        sa.Column("saga_type", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False, comment="by which the flag sent it past the saga"),
        sa.Column("percent", sa.Float, nullable=False, comment="of the flag, when it began"),
        sa.Column("saga_id", sa.Uuid, comment=shadow),
        sa.Column("direct_outcome", sa.Text, comment="COMPLETED or FAILED; null while it goes on"),
        sa.Column("direct_error", sa.Text),
        sa.Column("direct_effects", JSONB, nullable=False, server_default=none, comment="what it did outside"),
        sa.Column("saga_outcome", sa.Text, comment="the state in which the shadow ended"),
        sa.Column("saga_error", sa.Text),
        sa.Column(
            "saga_effects", JSONB, nullable=False, server_default=none, comment="what it would have done outside"
        ),
        sa.Column("differences", JSONB, comment="by name; empty: they agree"),
        sa.Column("begun_at", TIME, nullable=False),
        sa.Column("compared_at", TIME),
        sa.PrimaryKeyConstraint("run_id", name="pk_shadow_comparisons"),
        sa.CheckConstraint("(compared_at IS NULL) = (differences IS NULL)", name="ck_shadow_comparisons_compared"),
    )


def downgrade() -> None:
    op.drop_table("shadow_comparisons")
    op.drop_table("feature_flags")
