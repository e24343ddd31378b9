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

-- What one transaction changes in a task's counts.
CREATE TYPE tasker.task_change AS (
    task_uuid uuid,
    total     integer,
    satisfied integer,
    failed    integer,
    in_flight integer,
    backoff   integer
);

-- The messages that a transaction has to send: for each its queue, task and step.
CREATE TYPE tasker.outbox AS (
    queues text[],
    tasks  uuid[],
    steps  uuid[]
);
