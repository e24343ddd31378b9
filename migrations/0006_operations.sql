-- phase: pre
-- What operators and the services themselves keep beside the work.

CREATE TABLE tasker.workers (
    worker_uuid   uuid        PRIMARY KEY,
    hostname      text        NOT NULL,
    version       text        NOT NULL,
    namespaces    text[]      NOT NULL,
    handlers      text[]      NOT NULL,
    slots         integer     NOT NULL,
    slots_in_use  integer     NOT NULL DEFAULT 0,
    started_at    timestamptz NOT NULL,
    heartbeat_at  timestamptz NOT NULL,
    stopped_at    timestamptz
);

-- Entries that put a task before a person: they never move or retry anything.
CREATE TABLE tasker.tasks_dlq (
    dlq_entry_uuid       uuid        PRIMARY KEY,
    task_uuid            uuid        NOT NULL,
    original_state       text        NOT NULL,
    dlq_reason           text        NOT NULL CHECK (dlq_reason IN (
        'staleness_timeout', 'max_retries_exceeded', 'dependency_cycle_detected', 'worker_unavailable', 'manual_dlq')),
    dlq_timestamp        timestamptz NOT NULL,
    resolution_status    text        NOT NULL DEFAULT 'pending' CHECK (resolution_status IN (
        'pending', 'manually_resolved', 'permanently_failed', 'cancelled')),
    resolution_timestamp timestamptz,
    resolution_notes     text,
    resolved_by          text,
    task_snapshot        jsonb       NOT NULL,
    metadata             jsonb,
    created_at           timestamptz NOT NULL,
    updated_at           timestamptz NOT NULL
);
CREATE UNIQUE INDEX tasks_dlq_one_pending_idx ON tasker.tasks_dlq (task_uuid) WHERE resolution_status = 'pending';
CREATE INDEX tasks_dlq_task_idx ON tasker.tasks_dlq (task_uuid, dlq_timestamp);
-- Entries newest first. Only inserts touch it: no column of it ever changes.
CREATE INDEX tasks_dlq_timestamp_idx ON tasker.tasks_dlq (dlq_timestamp, dlq_entry_uuid);

-- Messages that no retry can help. Their step, where one is known, has moved to `error`.
CREATE TABLE tasker.poison_messages (
    poison_id   bigint      PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    queue       text        NOT NULL,
    msg_id      bigint      NOT NULL,
    message     jsonb,
    error       text        NOT NULL,
    task_uuid   uuid,
    step_uuid   uuid,
    recorded_at timestamptz NOT NULL
);
CREATE INDEX poison_messages_task_idx ON tasker.poison_messages (task_uuid);
CREATE INDEX poison_messages_recorded_idx ON tasker.poison_messages (recorded_at);

-- An orchestrator with open streams keeps a row here; only then do transactions hint their transitions.
CREATE TABLE tasker.watchers (
    watcher_uuid uuid        PRIMARY KEY,
    steps        boolean     NOT NULL,
    expires_at   timestamptz NOT NULL
);
