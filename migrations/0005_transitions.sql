-- phase: pre
-- Every committed change of state, in an order without gaps for each entity. Append-only, so no foreign keys.
-- A change may walk several edges of the state machine, through states that are never stored; what is stored is the net
-- edge. The domains hold the edges of tasker.domain.states, and a test compares the two.
-- `xid` tells a reader that keeps its snapshot exactly what it has not seen yet.

CREATE DOMAIN tasker.task_edge AS text CHECK (VALUE = ANY ('{
    pending>steps_in_process,pending>waiting_for_dependencies,pending>waiting_for_retry,
    pending>blocked_by_failures,pending>complete,pending>error,pending>cancelled,
    pending>resolved_manually,
    steps_in_process>waiting_for_dependencies,steps_in_process>waiting_for_retry,
    steps_in_process>blocked_by_failures,steps_in_process>complete,steps_in_process>error,
    steps_in_process>cancelled,steps_in_process>resolved_manually,
    waiting_for_dependencies>steps_in_process,waiting_for_dependencies>waiting_for_retry,
    waiting_for_dependencies>blocked_by_failures,waiting_for_dependencies>complete,
    waiting_for_dependencies>error,waiting_for_dependencies>cancelled,
    waiting_for_dependencies>resolved_manually,
    waiting_for_retry>steps_in_process,waiting_for_retry>waiting_for_dependencies,
    waiting_for_retry>blocked_by_failures,waiting_for_retry>complete,waiting_for_retry>error,
    waiting_for_retry>cancelled,waiting_for_retry>resolved_manually,
    blocked_by_failures>pending,blocked_by_failures>steps_in_process,
    blocked_by_failures>waiting_for_dependencies,blocked_by_failures>waiting_for_retry,
    blocked_by_failures>complete,blocked_by_failures>error,blocked_by_failures>cancelled,
    blocked_by_failures>resolved_manually,
    error>pending,error>steps_in_process,error>waiting_for_dependencies,error>waiting_for_retry,
    error>blocked_by_failures,error>complete}'::text[]));

CREATE DOMAIN tasker.step_edge AS text CHECK (VALUE = ANY ('{
    pending>enqueued,pending>in_progress,pending>waiting_for_retry,pending>complete,pending>error,
    pending>cancelled,pending>resolved_manually,
    enqueued>in_progress,enqueued>waiting_for_retry,enqueued>complete,enqueued>error,enqueued>cancelled,
    enqueued>resolved_manually,
    in_progress>enqueued_for_orchestration,in_progress>enqueued_as_error_for_orchestration,
    in_progress>waiting_for_retry,in_progress>complete,in_progress>error,in_progress>cancelled,
    in_progress>resolved_manually,
    enqueued_for_orchestration>complete,enqueued_for_orchestration>error,
    enqueued_for_orchestration>cancelled,enqueued_for_orchestration>resolved_manually,
    enqueued_as_error_for_orchestration>waiting_for_retry,enqueued_as_error_for_orchestration>complete,
    enqueued_as_error_for_orchestration>error,enqueued_as_error_for_orchestration>cancelled,
    enqueued_as_error_for_orchestration>resolved_manually,
    waiting_for_retry>pending,waiting_for_retry>enqueued,waiting_for_retry>complete,
    waiting_for_retry>cancelled,waiting_for_retry>resolved_manually,
    error>pending,error>enqueued,error>complete,error>cancelled,error>resolved_manually}'::text[]));

CREATE TABLE tasker.task_transitions (
    task_uuid  uuid        NOT NULL,
    sort_key   integer     NOT NULL,
    from_state text        NOT NULL,
    to_state   text        NOT NULL,
    xid        xid8        NOT NULL DEFAULT pg_current_xact_id(),
    metadata   jsonb,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (task_uuid, sort_key),
    CHECK ((from_state || '>' || to_state)::tasker.task_edge IS NOT NULL)
);

CREATE TABLE tasker.workflow_step_transitions (
    task_uuid   uuid        NOT NULL,
    step_uuid   uuid        NOT NULL,
    sort_key    integer     NOT NULL,
    from_state  text        NOT NULL,
    to_state    text        NOT NULL,
    attempt     integer     NOT NULL,
    worker_uuid uuid,
    xid         xid8        NOT NULL DEFAULT pg_current_xact_id(),
    metadata    jsonb,
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (task_uuid, step_uuid, sort_key),
    CHECK ((from_state || '>' || to_state)::tasker.step_edge IS NOT NULL)
);

-- One row for each result a worker reported: a view, since transitions and results are
-- insert-only and share their key.
CREATE VIEW tasker.workflow_step_result_audit AS
SELECT r.task_uuid, r.step_uuid, s.name AS step_name, r.sort_key, r.attempt, t.from_state, t.to_state,
       r.recorded_at, t.worker_uuid, k.correlation_id, r.success,
       (r.metadata ->> 'execution_time_ms')::bigint AS execution_time_ms,
       r.status, r.result, r.error, r.metadata, r.orchestration
FROM tasker.step_results r
JOIN tasker.workflow_step_transitions t USING (task_uuid, step_uuid, sort_key)
JOIN tasker.workflow_steps s USING (task_uuid, step_uuid)
JOIN tasker.tasks k USING (task_uuid)
WHERE t.to_state IN ('enqueued_for_orchestration', 'enqueued_as_error_for_orchestration');
