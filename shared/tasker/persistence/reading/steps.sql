-- Steps of a task, oldest first, each with its newest result and its last failure. To be filled in: room, whether
-- there is some; whole and brief, a result and what is shown of it where there is none. Parameters: task; after, only those behind this step; skip so
-- many; limit, null for all; bytes, the room for results as JSON text, which the first one may exceed; null for none.
SELECT s.task_uuid, s.step_uuid, s.name, s.state, s.attempts, s.max_attempts, s.retryable, s.total_parents,
       s.unmet_parents, s.backoff_request_seconds, s.next_retry_at, s.last_attempted_at, f.created_at AS last_failure_at,
       s.created_at, s.updated_at, s.completed_at,
       CASE WHEN r.sort_key IS NULL THEN NULL WHEN {room} THEN {whole} ELSE {brief} END AS envelope,
       r.sort_key IS NOT NULL AND NOT {room} AS results_omitted, clock.now AS read_at
FROM (SELECT tasker.now() AS now OFFSET 0) clock
CROSS JOIN (
    -- Ordered, so that the planner takes the primary key and no index that has the task second.
    SELECT * FROM tasker.workflow_steps s
    WHERE s.task_uuid = %(task)s
      AND s.step_uuid > coalesce(%(after)s::uuid, '00000000-0000-0000-0000-000000000000')
    ORDER BY s.step_uuid OFFSET %(skip)s LIMIT %(limit)s::bigint
) s
LEFT JOIN LATERAL (
    SELECT r.*, CASE WHEN %(bytes)s::bigint IS NOT NULL THEN
               octet_length(r.result::text) + coalesce(octet_length(r.error::text), 0) + octet_length(r.metadata::text)
               + coalesce(octet_length(r.orchestration::text), 0) END AS size
    FROM tasker.step_results r
    WHERE r.task_uuid = s.task_uuid AND r.step_uuid = s.step_uuid AND r.sort_key > s.results_after
    ORDER BY r.sort_key DESC LIMIT 1
) r ON true
LEFT JOIN LATERAL (
    SELECT t.created_at FROM tasker.workflow_step_transitions t
    WHERE t.task_uuid = s.task_uuid AND t.step_uuid = s.step_uuid
      AND t.to_state IN ('enqueued_as_error_for_orchestration', 'waiting_for_retry', 'error')
    ORDER BY t.sort_key DESC LIMIT 1
) f ON true
WINDOW page AS (ORDER BY s.step_uuid)
ORDER BY s.step_uuid
