-- phase: pre
-- The values that columns may take. Domains, not table CHECKs: PostgreSQL reads a table's CHECKs anew for every
-- statement that writes to it, whatever it writes, and only keeps those of a domain. A third of a single step's time.

CREATE DOMAIN tasker.task_state AS text CHECK (VALUE = ANY ('{
    pending,initializing,enqueuing_steps,steps_in_process,evaluating_results,waiting_for_dependencies,
    waiting_for_retry,blocked_by_failures,complete,error,cancelled,resolved_manually}'::text[]));

CREATE DOMAIN tasker.step_state AS text CHECK (VALUE = ANY ('{
    pending,enqueued,in_progress,enqueued_for_orchestration,enqueued_as_error_for_orchestration,
    waiting_for_retry,complete,error,cancelled,resolved_manually}'::text[]));

CREATE DOMAIN tasker.step_type AS text CHECK (VALUE = ANY (
    '{standard,decision,deferred_convergence,batchable,batch_worker}'::text[]));
CREATE DOMAIN tasker.backoff AS text CHECK (VALUE = ANY ('{none,linear,exponential,fibonacci}'::text[]));
CREATE DOMAIN tasker.on_worker_lost AS text CHECK (VALUE = ANY ('{retry,fail}'::text[]));
CREATE DOMAIN tasker.result_status AS text CHECK (VALUE = ANY ('{completed,failed,error}'::text[]));
CREATE DOMAIN tasker.sha256 AS bytea CHECK (octet_length(VALUE) = 32);
CREATE DOMAIN tasker.priority AS smallint CHECK (VALUE BETWEEN -100 AND 100);
CREATE DOMAIN tasker.step_count AS integer CHECK (VALUE >= 0);

-- What can run. A template version (`named_tasks`) points at its current revision; revisions are immutable
-- and found by the digest of their content, so a task keeps the one it started with.

CREATE TABLE tasker.task_namespaces (
    namespace_id integer     PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    name         text        NOT NULL UNIQUE CHECK (name ~ '^[a-z_][a-z0-9_]{0,28}$'),
    description  text,
    created_at   timestamptz NOT NULL DEFAULT tasker.now(),
    updated_at   timestamptz NOT NULL DEFAULT tasker.now()
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
    created_at        timestamptz NOT NULL DEFAULT tasker.now(),
    updated_at        timestamptz NOT NULL DEFAULT tasker.now(),
    UNIQUE (namespace_id, name, version)
);

CREATE TABLE tasker.template_revisions (
    template_digest tasker.sha256 PRIMARY KEY,
    named_task_uuid uuid        NOT NULL REFERENCES tasker.named_tasks,
    template        jsonb       NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT tasker.now()
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
