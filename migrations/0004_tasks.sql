-- phase: pre
-- Tasks, their steps and all that happens to them. State is a column and the truth; every change is a
-- compare-and-swap that appends a transition. Mutable rows carry no index on a column that changes often
-- and leave room on their pages, so that updates stay heap-only.

CREATE TABLE tasker.tasks (
    task_uuid               uuid        PRIMARY KEY,
    namespace_id            integer     NOT NULL,
    named_task_uuid         uuid        NOT NULL,
    -- No foreign keys upwards: every create would share-lock the same few rows. Retention keeps a
    -- revision while a task names it.
    template_digest         tasker.sha256 NOT NULL,
    state                   tasker.task_state NOT NULL DEFAULT 'pending',
    sort_key                integer     NOT NULL DEFAULT 0,
    priority                tasker.priority NOT NULL DEFAULT 0,
    -- Kept by whoever has locked this row. In flight spans `enqueued` to the notification states.
    total_steps             tasker.step_count NOT NULL DEFAULT 0,
    satisfied_steps         tasker.step_count NOT NULL DEFAULT 0,
    failed_steps            tasker.step_count NOT NULL DEFAULT 0,
    in_flight_steps         tasker.step_count NOT NULL DEFAULT 0,
    backoff_steps           tasker.step_count NOT NULL DEFAULT 0,
    -- When the timer must look at this task again: retry or expiry.
    wake_at                 timestamptz,
    expires_at              timestamptz,
    correlation_id          uuid        NOT NULL,
    parent_correlation_id   uuid,
    initiator               text        NOT NULL,
    source_system           text        NOT NULL,
    reason                  text        NOT NULL,
    tags                    text[]      NOT NULL DEFAULT '{}',
    context                 jsonb       NOT NULL DEFAULT '{}',
    requested_at            timestamptz NOT NULL,
    created_at              timestamptz NOT NULL,
    updated_at              timestamptz NOT NULL,
    completed_at            timestamptz,
    terminal_at             timestamptz,
    -- How many instances, of all its batches, the task may have in flight at once; null while it has none.
    batch_limit             integer,
    -- `expires_at` is this long after the task's creation. A task that an operator resumes from `error` gets all of it
    -- again: that somebody acts on it says that what it was made for is still wanted.
    ttl                     interval,
    CHECK ((terminal_at IS NOT NULL) = (state = ANY ('{complete,error,cancelled,resolved_manually}'::text[])))
) WITH (fillfactor = 70);

CREATE INDEX tasks_wake_at_idx ON tasker.tasks (wake_at) WHERE wake_at IS NOT NULL;
CREATE INDEX tasks_open_idx ON tasker.tasks (task_uuid) WHERE terminal_at IS NULL;

CREATE TABLE tasker.task_identities (
    identity_hash tasker.sha256 PRIMARY KEY,
    task_uuid     uuid        NOT NULL,
    created_at    timestamptz NOT NULL
);
-- An identity is found by its task when that goes. Task uuids grow, so an insert costs next to nothing.
CREATE INDEX task_identities_task_idx ON tasker.task_identities (task_uuid);

CREATE TABLE tasker.workflow_steps (
    task_uuid               uuid        NOT NULL REFERENCES tasker.tasks ON DELETE CASCADE,
    step_uuid               uuid        NOT NULL,
    name                    text        NOT NULL,
    template_step_name      text        NOT NULL,
    step_type               tasker.step_type NOT NULL,
    handler                 text        NOT NULL,
    state                   tasker.step_state NOT NULL DEFAULT 'pending',
    sort_key                integer     NOT NULL DEFAULT 0,
    -- Distinct parents; those not yet complete or resolved.
    total_parents           integer     NOT NULL,
    unmet_parents           integer     NOT NULL,
    attempts                integer     NOT NULL DEFAULT 0,
    max_attempts            integer     NOT NULL,
    retryable               boolean     NOT NULL,
    on_worker_lost          tasker.on_worker_lost NOT NULL,
    backoff                 tasker.backoff NOT NULL,
    backoff_base_ms         integer     NOT NULL,
    max_backoff_ms          integer     NOT NULL,
    timeout_seconds         integer,
    backoff_request_seconds integer,
    next_retry_at           timestamptz,
    last_attempted_at       timestamptz,
    created_at              timestamptz NOT NULL,
    updated_at              timestamptz NOT NULL,
    completed_at            timestamptz,
    -- Transitive ancestors: whose results the handler sees.
    ancestor_uuids          uuid[]      NOT NULL,
    inputs                  jsonb,
    checkpoint              jsonb,
    -- A reset clears a step's results without deleting history: those up to this sort_key no longer count as its
    -- result.
    results_after           integer     NOT NULL DEFAULT 0,
    -- Of an instance of a batch: the step that split the work, how many of its instances may be in flight at once, and
    -- whether one that failed holds back those that have not begun. Null for all other steps.
    batch_step_uuid         uuid,
    batch_parallelism       integer,
    batch_fail_fast         boolean,
    PRIMARY KEY (task_uuid, step_uuid),
    -- Name first: nothing but the uniqueness shall use this index.
    UNIQUE (name, task_uuid),
    CHECK (unmet_parents BETWEEN 0 AND total_parents)
) WITH (fillfactor = 60);

CREATE TABLE tasker.workflow_step_edges (
    task_uuid      uuid NOT NULL,
    from_step_uuid uuid NOT NULL,
    to_step_uuid   uuid NOT NULL,
    name           text NOT NULL DEFAULT 'provides',
    PRIMARY KEY (task_uuid, from_step_uuid, to_step_uuid, name),
    CHECK (from_step_uuid <> to_step_uuid)
);

-- Who runs what right now: inserted by a claim, deleted by its submit, found by its token in between.
CREATE TABLE tasker.step_leases (
    task_uuid   uuid        NOT NULL,
    step_uuid   uuid        NOT NULL,
    lease_token uuid        NOT NULL,
    worker_uuid uuid        NOT NULL,
    attempt     integer     NOT NULL,
    expires_at  timestamptz NOT NULL,
    -- The token of the claim that has yielded a checkpoint; compared with the lease's own, since a claim takes over
    -- the row of one before it.
    yielded_by  uuid,
    PRIMARY KEY (task_uuid, step_uuid)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 5000);

-- Insert-only: what each execution (or an operator) reported. `sort_key` is that of the transition which
-- brought it, so a result keeps its place even after a reset starts the attempts anew.
CREATE TABLE tasker.step_results (
    task_uuid     uuid        NOT NULL,
    step_uuid     uuid        NOT NULL,
    sort_key      integer     NOT NULL,
    attempt       integer     NOT NULL,
    success       boolean     NOT NULL,
    status        tasker.result_status NOT NULL,
    result        jsonb       NOT NULL,
    error         jsonb,
    metadata      jsonb       NOT NULL DEFAULT '{}',
    orchestration jsonb,
    recorded_at   timestamptz NOT NULL,
    PRIMARY KEY (task_uuid, step_uuid, sort_key)
);
