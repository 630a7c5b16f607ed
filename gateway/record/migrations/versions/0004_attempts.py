"""Attempts that can be looked into: why each failed, whether it was drawn alone; an index of what FAILED, by reason."""

from alembic import op

revision = "0004"
down_revision = "0003"

# Both without a default: gateways of the version before write neither, and what they have not written is not known.
COLUMNS = """
ALTER TABLE attempts ADD COLUMN failure JSONB;
ALTER TABLE attempts ADD COLUMN alone BOOLEAN;
COMMENT ON COLUMN attempts.failure IS 'easel.v1.Failure of one that FAILED';
COMMENT ON COLUMN attempts.alone IS 'whether it was to be drawn with no other beside it';
"""

INDEX = """
CREATE INDEX generations_failure ON generations (owner, (failure ->> 'reason'), id) WHERE state = 'FAILED';
"""


def upgrade() -> None:
    op.execute(COLUMNS)
    op.execute(INDEX)


def downgrade() -> None:
    op.execute("DROP INDEX generations_failure")
    op.execute("ALTER TABLE attempts DROP COLUMN failure, DROP COLUMN alone")
