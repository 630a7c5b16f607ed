"""Lists of one owner pass over neither the others' generations nor tombstones; the queue is counted in its index alone."""

from alembic import op

revision = "0005"
down_revision = "0004"

INDEXES = """
CREATE INDEX generations_owner ON generations (owner, id) WHERE delete_time IS NULL;
DROP INDEX generations_state;
CREATE INDEX generations_state ON generations (owner, state, id) WHERE delete_time IS NULL;
DROP INDEX generations_model;
CREATE INDEX generations_model ON generations (owner, model, id) WHERE delete_time IS NULL;
DROP INDEX generations_failure;
CREATE INDEX generations_failure ON generations (owner, (failure ->> 'reason'), id)
    WHERE state = 'FAILED' AND delete_time IS NULL;
DROP INDEX generations_queue;
CREATE INDEX generations_queue ON generations (model, priority DESC, id) INCLUDE (create_time) WHERE state = 'QUEUED';
"""

FORMER_INDEXES = """
DROP INDEX generations_owner, generations_state, generations_model, generations_failure, generations_queue;
CREATE INDEX generations_state ON generations (owner, state, id);
CREATE INDEX generations_model ON generations (owner, model, id);
CREATE INDEX generations_failure ON generations (owner, (failure ->> 'reason'), id) WHERE state = 'FAILED';
CREATE INDEX generations_queue ON generations (model, priority DESC, id) WHERE state = 'QUEUED';
"""


def upgrade() -> None:
    op.execute(INDEXES)


def downgrade() -> None:
    op.execute(FORMER_INDEXES)
