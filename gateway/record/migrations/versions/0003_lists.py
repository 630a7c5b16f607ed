"""Lists and removals that stay quick whatever has gathered: an index of models, one of what is due, and what labels are like."""

from alembic import op

revision = "0003"
down_revision = "0002"

INDEXES = """
CREATE INDEX generations_model ON generations (owner, model, id);
CREATE INDEX object_deletions_due ON object_deletions (immediately, create_time);
-- The planner does not look at what it knows of a partial index. Without this it takes every label for a common one.
CREATE STATISTICS generations_labels_values ON (spec -> 'labels') FROM generations;
"""


def upgrade() -> None:
    op.execute(INDEXES)


def downgrade() -> None:
    op.execute("DROP STATISTICS generations_labels_values")
    op.execute("DROP INDEX generations_model, object_deletions_due")
