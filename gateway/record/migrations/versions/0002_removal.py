"""Removal: tombstones, retention, and the objects that nobody can ask for any more; indexes for lists."""

from alembic import op

revision = "0002"
down_revision = "0001"

TABLES = """
ALTER TABLE generations ADD COLUMN delete_time TIMESTAMP WITH TIME ZONE;
COMMENT ON COLUMN generations.purge_time IS 'when the row, or its tombstone, goes away';
COMMENT ON COLUMN generations.delete_time IS 'since when it is a tombstone';
CREATE INDEX generations_purge ON generations (purge_time) WHERE state IN ('SUCCEEDED', 'FAILED', 'CANCELLED', 'EXPIRED');
CREATE INDEX generations_state ON generations (owner, state, id);
CREATE INDEX generations_labels ON generations USING gin ((spec -> 'labels') jsonb_path_ops) WHERE spec ? 'labels';

CREATE TABLE object_deletions (
    object_prefix TEXT NOT NULL,
    immediately BOOLEAN DEFAULT false NOT NULL,
    create_time TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT object_deletions_pkey PRIMARY KEY (object_prefix)
);
COMMENT ON COLUMN object_deletions.object_prefix IS 'of an attempt whose pictures nobody can ask for any more';
"""

GUARDS = """
CREATE OR REPLACE FUNCTION guard_generation() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.delete_time IS NOT NULL AND NEW.delete_time IS DISTINCT FROM OLD.delete_time THEN
        RAISE EXCEPTION 'generation % is deleted and stays so', OLD.id USING ERRCODE = 'check_violation';
    ELSIF NEW.state = OLD.state THEN
        IF NEW.revision <> OLD.revision OR (
            OLD.state NOT IN ('QUEUED', 'RUNNING')
            AND (OLD.delete_time IS NOT NULL OR NEW.delete_time IS NULL)
            AND (NEW.images, NEW.failure, NEW.attempt, NEW.end_time)
                IS DISTINCT FROM (OLD.images, OLD.failure, OLD.attempt, OLD.end_time)
        ) THEN
            RAISE EXCEPTION 'generation % is % and stays as it is', OLD.id, OLD.state USING ERRCODE = 'check_violation';
        ELSIF OLD.state IN ('QUEUED', 'RUNNING') AND NEW.delete_time IS NOT NULL THEN
            RAISE EXCEPTION 'generation % is % and cannot be deleted', OLD.id, OLD.state
                USING ERRCODE = 'check_violation';
        END IF;
    ELSIF NOT (
        (OLD.state = 'QUEUED' AND NEW.state IN ('RUNNING', 'SUCCEEDED', 'FAILED', 'CANCELLED', 'EXPIRED'))
        OR (OLD.state = 'RUNNING' AND NEW.state IN ('QUEUED', 'SUCCEEDED', 'FAILED', 'CANCELLED', 'EXPIRED'))
    ) THEN
        RAISE EXCEPTION 'generation % cannot go from % to %', OLD.id, OLD.state, NEW.state
            USING ERRCODE = 'check_violation';
    ELSE
        NEW.revision := OLD.revision + 1;
    END IF;
    RETURN NEW;
END
$$;

CREATE FUNCTION guard_removal() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'generation % is % and cannot be removed', OLD.id, OLD.state USING ERRCODE = 'check_violation';
END
$$;

CREATE TRIGGER guard_removal BEFORE DELETE ON generations FOR EACH ROW WHEN (OLD.state IN ('QUEUED', 'RUNNING'))
    EXECUTE FUNCTION guard_removal();

CREATE OR REPLACE FUNCTION record_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO events (generation_id, revision, state, attempt)
    VALUES (NEW.id, NEW.revision, NEW.state, NEW.attempt);
    IF TG_OP = 'UPDATE' AND OLD.state = 'RUNNING' THEN
        -- Unless the statement has said how it ended. Here, and not in each statement, whose snapshot may be older than
        -- the claim that it waited for.
        UPDATE attempts SET outcome = 'STOPPED', end_time = now()
        WHERE generation_id = OLD.id AND number = OLD.attempt AND outcome IS NULL;
    END IF;
    IF NEW.state NOT IN ('QUEUED', 'RUNNING') THEN
        -- What any attempt but the winner stored, or may yet store, is of no use.
        INSERT INTO object_deletions (object_prefix)
        SELECT object_prefix FROM attempts
        WHERE generation_id = NEW.id
          AND starts_with(NEW.images -> 0 ->> 'object_key', object_prefix) IS NOT TRUE
        ON CONFLICT DO NOTHING;
    END IF;
    RETURN NULL;
END
$$;
"""


def upgrade() -> None:
    op.execute(TABLES)
    op.execute(GUARDS)


def downgrade() -> None:
    raise NotImplementedError("what was deleted cannot come back")
