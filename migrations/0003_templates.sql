-- phase: pre
-- What can run. A template version (`named_tasks`) points at its current revision; revisions are immutable
-- and found by the digest of their content, so a task keeps the one it started with.

CREATE TABLE tasker.task_namespaces (
    namespace_id integer     PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    name         text        NOT NULL UNIQUE CHECK (name ~ '^[a-z_][a-z0-9_]{0,28}$'),
    description  text,
    created_at   timestamptz NOT NULL,
    updated_at   timestamptz NOT NULL
);

CREATE TABLE tasker.named_tasks (
    named_task_uuid   uuid        PRIMARY KEY,
    namespace_id      integer     NOT NULL REFERENCES tasker.task_namespaces,
    name              text        NOT NULL CHECK (length(name) BETWEEN 1 AND 255),
    version           text        NOT NULL CHECK (length(version) BETWEEN 1 AND 50),
    description       text,
    identity_strategy text        NOT NULL DEFAULT 'strict'
                      CHECK (identity_strategy IN ('strict', 'caller_provided', 'always_unique')),
    template_digest   tasker.sha256 NOT NULL,
    active            boolean     NOT NULL DEFAULT true,
    created_at        timestamptz NOT NULL,
    updated_at        timestamptz NOT NULL,
    UNIQUE (namespace_id, name, version)
);

CREATE TABLE tasker.template_revisions (
    template_digest tasker.sha256 PRIMARY KEY,
    named_task_uuid uuid        NOT NULL REFERENCES tasker.named_tasks,
    template        jsonb       NOT NULL,
    created_at      timestamptz NOT NULL,
    -- When a template calls its tasks stale, where it is read without its steps: for each open task, again and again.
    lifecycle       jsonb       GENERATED ALWAYS AS (template -> 'lifecycle') STORED
);

-- A revision planned for one environment: what creating a task copies. Positions are topological,
-- from 0; `parents` and `ancestors` hold positions.
CREATE TABLE tasker.template_steps (
    template_digest tasker.sha256 NOT NULL,
    environment     text     NOT NULL,
    position        integer  NOT NULL,
    name            text     NOT NULL,
    step_type       tasker.step_type NOT NULL,
    handler         text     NOT NULL,
    inputs          jsonb,
    initial         boolean  NOT NULL,
    retryable       boolean  NOT NULL,
    max_attempts    integer  NOT NULL,
    backoff         tasker.backoff NOT NULL,
    backoff_base_ms integer  NOT NULL,
    max_backoff_ms  integer  NOT NULL,
    timeout_seconds integer,
    on_worker_lost  tasker.on_worker_lost NOT NULL,
    parents         integer[] NOT NULL,
    ancestors       integer[] NOT NULL,
    PRIMARY KEY (template_digest, environment, position),
    FOREIGN KEY (template_digest) REFERENCES tasker.template_revisions
);
