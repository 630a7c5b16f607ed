"""The record: generations, their attempts and events, models, workers.

`guard_generation` is the state machine: it refuses every change of state that is not in it, so that a final state never
changes whatever a program tries, and it alone numbers the changes. `record_event` writes the event of each change in
the same transaction, and ends the attempt of a generation that leaves RUNNING.
"""

from alembic import op

revision = "0001"
down_revision = None

TABLES = """
CREATE TABLE generations (
    id UUID DEFAULT uuidv7() NOT NULL,
    owner TEXT NOT NULL,
    request_id TEXT,
    model TEXT NOT NULL,
    priority INTEGER NOT NULL,
    spec JSONB NOT NULL,
    resolved_spec JSONB NOT NULL,
    state TEXT DEFAULT 'QUEUED' NOT NULL,
    revision BIGINT DEFAULT 1 NOT NULL,
    attempt INTEGER DEFAULT 0 NOT NULL,
    lost_attempts INTEGER DEFAULT 0 NOT NULL,
    claim_id TEXT,
    lease_expire_time TIMESTAMP WITH TIME ZONE,
    available_time TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    dispatched_time TIMESTAMP WITH TIME ZONE,
    images JSONB,
    phase_times JSONB,
    failure JSONB,
    retried_from UUID,
    create_time TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    start_time TIMESTAMP WITH TIME ZONE,
    end_time TIMESTAMP WITH TIME ZONE,
    deadline_time TIMESTAMP WITH TIME ZONE,
    purge_time TIMESTAMP WITH TIME ZONE,
    CONSTRAINT generations_pkey PRIMARY KEY (id),
    CONSTRAINT generations_owner_request_id_key UNIQUE (owner, request_id),
    CONSTRAINT generations_state_known_check CHECK (state IN ('QUEUED', 'RUNNING', 'SUCCEEDED', 'FAILED', 'CANCELLED', 'EXPIRED')),
    CONSTRAINT generations_images_of_succeeded_check CHECK ((state = 'SUCCEEDED') = (images IS NOT NULL)),
    CONSTRAINT generations_failure_of_failed_check CHECK ((state = 'FAILED') = (failure IS NOT NULL)),
    CONSTRAINT generations_lease_of_running_check CHECK ((state = 'RUNNING') = (lease_expire_time IS NOT NULL))
);

CREATE INDEX generations_queue ON generations (model, priority DESC, id) WHERE state = 'QUEUED';
CREATE INDEX generations_running ON generations (id) WHERE state = 'RUNNING';
CREATE INDEX generations_deadline ON generations (deadline_time) WHERE state IN ('QUEUED', 'RUNNING') AND deadline_time IS NOT NULL;
CREATE INDEX generations_dispatched ON generations (model, dispatched_time) WHERE state = 'QUEUED' AND dispatched_time IS NOT NULL;
COMMENT ON COLUMN generations.spec IS 'easel.v1.GenerationSpec as the client sent it';
COMMENT ON COLUMN generations.resolved_spec IS 'easel.v1.GenerationSpec with nothing left open';
COMMENT ON COLUMN generations.attempt IS 'the current one: the fencing token';
COMMENT ON COLUMN generations.claim_id IS 'of the current attempt, so that asking again gets the same answer';
COMMENT ON COLUMN generations.dispatched_time IS 'when its hint was last about to be published';
COMMENT ON COLUMN generations.images IS 'list of easel.worker.v1.StoredImage';
COMMENT ON COLUMN generations.phase_times IS 'easel.v1.PhaseTimes';
COMMENT ON COLUMN generations.failure IS 'easel.v1.Failure';
CREATE TABLE models (
    name TEXT NOT NULL,
    model JSONB NOT NULL,
    last_seen_time TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT models_pkey PRIMARY KEY (name)
);

COMMENT ON COLUMN models.model IS 'easel.v1.Model as its workers last reported it';
CREATE TABLE unreadable_messages (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    subject TEXT NOT NULL,
    data BYTEA NOT NULL,
    error TEXT NOT NULL,
    time TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT unreadable_messages_pkey PRIMARY KEY (id)
);

CREATE TABLE attempts (
    generation_id UUID NOT NULL,
    number INTEGER NOT NULL,
    worker_id TEXT NOT NULL,
    claim_id TEXT NOT NULL,
    object_prefix TEXT NOT NULL,
    outcome TEXT,
    progress JSONB,
    progress_sequence BIGINT DEFAULT 0 NOT NULL,
    start_time TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    end_time TIMESTAMP WITH TIME ZONE,
    CONSTRAINT attempts_pkey PRIMARY KEY (generation_id, number),
    CONSTRAINT attempts_outcome_known_check CHECK (outcome IN ('SUCCEEDED', 'FAILED', 'LOST', 'RELEASED', 'STOPPED')),
    CONSTRAINT attempts_generation_id_fkey FOREIGN KEY(generation_id) REFERENCES generations (id) ON DELETE CASCADE
);

COMMENT ON COLUMN attempts.outcome IS 'NULL while it runs';
COMMENT ON COLUMN attempts.progress IS 'easel.v1.Progress, at most half a second old';
CREATE TABLE events (
    generation_id UUID NOT NULL,
    revision BIGINT NOT NULL,
    state TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    time TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT events_pkey PRIMARY KEY (generation_id, revision),
    CONSTRAINT events_generation_id_fkey FOREIGN KEY(generation_id) REFERENCES generations (id) ON DELETE CASCADE
);

CREATE TABLE workers (
    worker_id TEXT NOT NULL,
    model TEXT NOT NULL,
    slots INTEGER NOT NULL,
    free_slots INTEGER NOT NULL,
    last_seen_time TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT workers_pkey PRIMARY KEY (worker_id, model),
    CONSTRAINT workers_model_fkey FOREIGN KEY(model) REFERENCES models (name) ON DELETE CASCADE
);

"""

STATE_MACHINE = """
CREATE FUNCTION guard_generation() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.state = OLD.state THEN
        IF NEW.revision <> OLD.revision OR (
            OLD.state NOT IN ('QUEUED', 'RUNNING')
            AND (NEW.images, NEW.failure, NEW.attempt, NEW.end_time)
                IS DISTINCT FROM (OLD.images, OLD.failure, OLD.attempt, OLD.end_time)
        ) THEN
            RAISE EXCEPTION 'generation % is % and stays as it is', OLD.id, OLD.state USING ERRCODE = 'check_violation';
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

CREATE TRIGGER guard_generation BEFORE UPDATE ON generations FOR EACH ROW EXECUTE FUNCTION guard_generation();

CREATE FUNCTION record_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO events (generation_id, revision, state, attempt)
    VALUES (NEW.id, NEW.revision, NEW.state, NEW.attempt);
    IF TG_OP = 'UPDATE' AND OLD.state = 'RUNNING' THEN
        -- Unless the statement has said how it ended. Here, and not in each statement, whose snapshot may be older than
        -- the claim that it waited for.
        UPDATE attempts SET outcome = 'STOPPED', end_time = now()
        WHERE generation_id = OLD.id AND number = OLD.attempt AND outcome IS NULL;
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER record_creation AFTER INSERT ON generations FOR EACH ROW EXECUTE FUNCTION record_event();
CREATE TRIGGER record_change AFTER UPDATE ON generations FOR EACH ROW WHEN (OLD.state <> NEW.state)
    EXECUTE FUNCTION record_event();
"""


def upgrade() -> None:
    op.execute(TABLES)
    op.execute(STATE_MACHINE)


def downgrade() -> None:
    op.execute("DROP TABLE unreadable_messages, workers, models, events, attempts, generations")
    op.execute("DROP FUNCTION guard_generation, record_event")
