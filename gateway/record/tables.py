"""The tables. Migrations make them; a test proves that both say the same.

Triggers, made by the migrations, keep the promises that no caller can forget. `guard_generation` refuses every change
of state outside the state machine and numbers the others (`revision`). `guard_removal` refuses to remove what is not
final. `record_event` writes the event of each change in the same transaction, ends the attempt of a generation that
leaves RUNNING, and once a generation is final puts down the objects of its other attempts for deletion.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, UUID

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
    }
)

generations = Table(
    "generations",
    metadata,
    Column("id", UUID(as_uuid=False), primary_key=True, server_default=text("uuidv7()")),
    Column("owner", Text, nullable=False),
    Column("request_id", Text),
    Column("model", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("spec", JSONB, nullable=False, comment="easel.v1.GenerationSpec as the client sent it"),
    Column("resolved_spec", JSONB, nullable=False, comment="easel.v1.GenerationSpec with nothing left open"),
    Column("state", Text, nullable=False, server_default=text("'QUEUED'")),
    Column("revision", BigInteger, nullable=False, server_default=text("1")),
    Column("attempt", Integer, nullable=False, server_default=text("0"), comment="the current one: the fencing token"),
    Column("lost_attempts", Integer, nullable=False, server_default=text("0")),
    Column("claim_id", Text, comment="of the current attempt, so that asking again gets the same answer"),
    Column("lease_expire_time", DateTime(timezone=True)),
    Column("available_time", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("dispatched_time", DateTime(timezone=True), comment="when its hint was last about to be published"),
    Column("images", JSONB, comment="list of easel.worker.v1.StoredImage"),
    Column("phase_times", JSONB, comment="easel.v1.PhaseTimes"),
    Column("failure", JSONB, comment="easel.v1.Failure"),
    Column("retried_from", UUID(as_uuid=False)),
    Column("trace_parent", Text, comment="the span that accepted it, as W3C writes it; NULL where none was recorded"),
    Column("create_time", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("start_time", DateTime(timezone=True)),
    Column("end_time", DateTime(timezone=True)),
    Column("deadline_time", DateTime(timezone=True)),
    Column("purge_time", DateTime(timezone=True), comment="when the row, or its tombstone, goes away"),
    Column("delete_time", DateTime(timezone=True), comment="since when it is a tombstone"),
    UniqueConstraint("owner", "request_id"),
    CheckConstraint(
        "state IN ('QUEUED', 'RUNNING', 'SUCCEEDED', 'FAILED', 'CANCELLED', 'EXPIRED')", name="state_known"
    ),
    CheckConstraint("(state = 'SUCCEEDED') = (images IS NOT NULL)", name="images_of_succeeded"),
    CheckConstraint("(state = 'FAILED') = (failure IS NOT NULL)", name="failure_of_failed"),
    CheckConstraint("(state = 'RUNNING') = (lease_expire_time IS NOT NULL)", name="lease_of_running"),
)

#: The queue in the order in which it is served; also its length, its age, and a generation's place in it.
Index(
    "generations_queue",
    generations.c.model,
    generations.c.priority.desc(),
    generations.c.id,
    postgresql_include=["create_time"],
    postgresql_where=generations.c.state == text("'QUEUED'"),
)
#: The hints that should be on the bus.
Index(
    "generations_dispatched",
    generations.c.model,
    generations.c.dispatched_time,
    postgresql_where=text("state = 'QUEUED' AND dispatched_time IS NOT NULL"),
)
#: What is being drawn; without the lease, so that a renewal is a heap-only update.
Index("generations_running", generations.c.id, postgresql_where=generations.c.state == text("'RUNNING'"))
#: What may still expire.
Index(
    "generations_deadline",
    generations.c.deadline_time,
    postgresql_where=text("state IN ('QUEUED', 'RUNNING') AND deadline_time IS NOT NULL"),
)

_FINAL = text("state IN ('SUCCEEDED', 'FAILED', 'CANCELLED', 'EXPIRED')")
_LISTED = text("delete_time IS NULL")

#: What is to go away, in order, and what has no time for that yet.
Index("generations_purge", generations.c.purge_time, postgresql_where=_FINAL)
#: Pages of a list of one owner, who passes over neither the others' generations nor tombstones of its own.
Index("generations_owner", generations.c.owner, generations.c.id, postgresql_where=_LISTED)
#: Pages of a list of one state.
Index("generations_state", generations.c.owner, generations.c.state, generations.c.id, postgresql_where=_LISTED)
#: Pages of a list of one model.
Index("generations_model", generations.c.owner, generations.c.model, generations.c.id, postgresql_where=_LISTED)
#: Pages of a list of what FAILED for one reason.
Index(
    "generations_failure",
    generations.c.owner,
    generations.c.failure["reason"].astext.label("reason"),
    generations.c.id,
    postgresql_where=text("state = 'FAILED' AND delete_time IS NULL"),
)
#: What carries a label; `generations_labels_values`, statistics of it, tell the planner how many do.
Index(
    "generations_labels",
    # In the words of lists: what SQLAlchemy makes of ["labels"] is another expression to PostgreSQL.
    generations.c.spec.op("->")(text("'labels'")).label("labels"),
    postgresql_using="gin",
    postgresql_ops={"labels": "jsonb_path_ops"},
    postgresql_where=text("spec ? 'labels'"),
)

attempts = Table(
    "attempts",
    metadata,
    Column("generation_id", UUID(as_uuid=False), ForeignKey(generations.c.id, ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("worker_id", Text, nullable=False),
    Column("claim_id", Text, nullable=False),
    Column("object_prefix", Text, nullable=False),
    Column("outcome", Text, comment="NULL while it runs"),
    Column("progress", JSONB, comment="easel.v1.Progress, at most half a second old"),
    Column("progress_sequence", BigInteger, nullable=False, server_default=text("0")),
    Column("start_time", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("end_time", DateTime(timezone=True)),
    Column("failure", JSONB, comment="easel.v1.Failure of one that FAILED"),
    Column("alone", Boolean, comment="whether it was to be drawn with no other beside it"),
    CheckConstraint("outcome IN ('SUCCEEDED', 'FAILED', 'LOST', 'RELEASED', 'STOPPED')", name="outcome_known"),
)

events = Table(
    "events",
    metadata,
    Column("generation_id", UUID(as_uuid=False), ForeignKey(generations.c.id, ondelete="CASCADE"), primary_key=True),
    Column("revision", BigInteger, primary_key=True),
    Column("state", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("time", DateTime(timezone=True), nullable=False, server_default=func.now()),
)

models = Table(
    "models",
    metadata,
    Column("name", Text, primary_key=True),
    Column("model", JSONB, nullable=False, comment="easel.v1.Model as its workers last reported it"),
    Column("last_seen_time", DateTime(timezone=True), nullable=False, server_default=func.now()),
)

workers = Table(
    "workers",
    metadata,
    Column("worker_id", Text, primary_key=True),
    Column("model", Text, ForeignKey(models.c.name, ondelete="CASCADE"), primary_key=True),
    Column("slots", Integer, nullable=False),
    Column("free_slots", Integer, nullable=False),
    Column("last_seen_time", DateTime(timezone=True), nullable=False, server_default=func.now()),
)

object_deletions = Table(
    "object_deletions",
    metadata,
    Column("object_prefix", Text, primary_key=True, comment="of an attempt whose pictures nobody can ask for any more"),
    Column("immediately", Boolean, nullable=False, server_default=text("false")),
    Column("create_time", DateTime(timezone=True), nullable=False, server_default=func.now()),
)

Index("object_deletions_due", object_deletions.c.immediately, object_deletions.c.create_time)

unreadable_messages = Table(
    "unreadable_messages",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("subject", Text, nullable=False),
    Column("data", LargeBinary, nullable=False),
    Column("error", Text, nullable=False),
    Column("time", DateTime(timezone=True), nullable=False, server_default=func.now()),
)
