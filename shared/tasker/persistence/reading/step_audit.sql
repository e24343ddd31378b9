-- The results that workers submitted for a step, newest first. Those that a page has no room for come without `envelope`;
-- the first has it always. Parameters: task; step; before, only those before this sort_key; skip so many; limit, null
-- for all; bytes, the room for the results together.
SELECT a.task_uuid, a.step_uuid, a.step_name, a.sort_key, a.attempt, a.from_state, a.to_state, a.recorded_at,
       a.worker_uuid, a.correlation_id, a.success, a.execution_time_ms,
       CASE WHEN row_number() OVER page = 1 OR sum(a.size) OVER page <= %(bytes)s THEN jsonb_build_object(
           'success', a.success, 'status', a.status, 'result', a.result, 'error', a.error, 'metadata', a.metadata)
       END AS envelope
FROM (
    SELECT a.*, octet_length(a.result::text) + coalesce(octet_length(a.error::text), 0) AS size
    FROM tasker.workflow_step_result_audit a
    WHERE a.task_uuid = %(task)s AND a.step_uuid = %(step)s
      AND (%(before)s::integer IS NULL OR a.sort_key < %(before)s)
    ORDER BY a.sort_key DESC OFFSET %(skip)s LIMIT %(limit)s::bigint
) a
WINDOW page AS (ORDER BY a.sort_key DESC)
ORDER BY a.sort_key DESC
