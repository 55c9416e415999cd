"""The relay's tables for SQLAlchemy Core, in the same metadata as the engine's."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP, UUID

from sagas.store.schema import metadata

_TIME = TIMESTAMP(timezone=True)
_KINDS = "kind IN ('task', 'exchange')"
_STATES = "state IN ('OPEN', 'DONE', 'PARKED', 'DROPPED')"
_OPEN = "state = 'OPEN'"

saga_subscriptions = Table(
    "saga_subscriptions",
    metadata,
    Column("subscriber", Text, primary_key=True),
    Column("event_type", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("target", Text, nullable=False, comment="The queue of a task, or the name of an exchange"),
    Column("max_attempts", Integer, nullable=False),
    CheckConstraint(_KINDS, name="saga_subscriptions_kind"),
    comment="What nobody wants is not relayed; event_type * is every type",
)

saga_deliveries = Table(
    "saga_deliveries",
    metadata,
    Column("delivery_id", BigInteger, Identity(always=True), primary_key=True),
    Column("event_id", BigInteger, ForeignKey("saga_events.event_id", ondelete="RESTRICT"), nullable=False),
    Column("subscriber", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("stream", Text, nullable=False),
    Column("state", Text, nullable=False, server_default=text("'OPEN'")),
    Column("attempt", Integer, nullable=False, server_default=text("0")),
    Column("attempt_id", UUID(as_uuid=True)),
    Column("claimed_by", Text),
    Column("claim_node", UUID(as_uuid=True)),
    Column("claim_host", Text),
    Column("claim_pid", Integer),
    Column("claim_started", Double),
    Column("lease_until", _TIME),
    Column("look_at", _TIME),
    Column("published_at", _TIME, comment="Since when its message is out; null while nobody has sent one"),
    Column("republished", Integer, nullable=False, server_default=text("0")),
    Column("error", JSONB),
    Column("created_at", _TIME, nullable=False),
    Column("closed_at", _TIME),
    UniqueConstraint("event_id", "subscriber", name="uq_saga_deliveries_event"),
    CheckConstraint(_KINDS, name="saga_deliveries_kind"),
    CheckConstraint(_STATES, name="saga_deliveries_state"),
    CheckConstraint("(state = 'OPEN') = (look_at IS NOT NULL)", name="saga_deliveries_look"),
    CheckConstraint("(state = 'OPEN') = (closed_at IS NULL)", name="saga_deliveries_closed"),
    CheckConstraint("lease_until IS NULL OR (state = 'OPEN' AND attempt_id IS NOT NULL)", name="saga_deliveries_lease"),
    Index("idx_saga_deliveries_lane", "subscriber", "stream", "event_id", postgresql_where=text(_OPEN)),
    Index("idx_saga_deliveries_due", "look_at", postgresql_where=text(f"{_OPEN} AND kind = 'task'")),
    Index(
        "idx_saga_deliveries_exchange",
        "subscriber",
        "event_id",
        postgresql_where=text(f"{_OPEN} AND kind = 'exchange'"),
    ),
    Index("idx_saga_deliveries_claims", "subscriber", "lease_until", postgresql_where=text("lease_until IS NOT NULL")),
    Index("idx_saga_deliveries_parked", "delivery_id", postgresql_where=text("state = 'PARKED'")),
    comment="One event for one subscriber, written in the event's own transaction",
)
