-- The results that workers submitted for a step, newest first: what tasker.workflow_step_result_audit has of it, found by
-- key whatever the statistics say. Those that a page has no room for come without `envelope`; the first has it always.
-- Parameters: task; step; before, only those before this sort_key; skip so many; limit, null for all; bytes, the room for
-- the results together.
SELECT a.sort_key, a.attempt, a.from_state, a.to_state, a.recorded_at, a.worker_uuid, a.success, a.execution_time_ms,
       CASE WHEN row_number() OVER page = 1 OR sum(a.size) OVER page <= %(bytes)s THEN jsonb_build_object(
           'success', a.success, 'status', a.status, 'result', a.result, 'error', a.error, 'metadata', a.metadata)
       END AS envelope
FROM (
    SELECT r.*, t.from_state, t.to_state, t.worker_uuid,
           (r.metadata ->> 'execution_time_ms')::bigint AS execution_time_ms,
           octet_length(r.result::text) + coalesce(octet_length(r.error::text), 0) AS size
    FROM (
        SELECT * FROM tasker.step_results r
        WHERE r.task_uuid = %(task)s AND r.step_uuid = %(step)s
          AND r.sort_key < coalesce(%(before)s::integer, 2147483647)
        ORDER BY r.sort_key DESC OFFSET 0
    ) r
    CROSS JOIN LATERAL (
        SELECT * FROM tasker.workflow_step_transitions t
        WHERE t.task_uuid = r.task_uuid AND t.step_uuid = r.step_uuid AND t.sort_key = r.sort_key LIMIT 1
    ) t
    WHERE t.to_state IN ('enqueued_for_orchestration', 'enqueued_as_error_for_orchestration')
    ORDER BY r.sort_key DESC OFFSET %(skip)s LIMIT %(limit)s::bigint
) a
WINDOW page AS (ORDER BY a.sort_key DESC)
ORDER BY a.sort_key DESC
