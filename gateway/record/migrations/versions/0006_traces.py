"""The trace that a generation belongs to, so that it goes on wherever the generation is handed out."""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.execute("ALTER TABLE generations ADD COLUMN trace_parent text")
    op.execute(
        "COMMENT ON COLUMN generations.trace_parent IS "
        "'the span that accepted it, as W3C writes it; NULL where none was recorded'"
    )


def downgrade() -> None:
    op.execute("ALTER TABLE generations DROP COLUMN trace_parent")
