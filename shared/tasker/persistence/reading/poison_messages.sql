-- Messages that nobody could handle, newest first, with the state of the step that each named.
-- Parameters: task, only those that named it, null for all; before, only older records, null for all; skip; limit.
SELECT p.poison_id, p.queue, p.msg_id, p.message, p.error, p.task_uuid, p.step_uuid, p.recorded_at,
       s.state AS step_state
FROM tasker.poison_messages p
LEFT JOIN LATERAL (
    SELECT s.state FROM tasker.workflow_steps s
    WHERE s.task_uuid = p.task_uuid AND s.step_uuid = p.step_uuid LIMIT 1
) s ON true
WHERE (%(task)s::uuid IS NULL OR p.task_uuid = %(task)s)
  AND (%(before)s::bigint IS NULL OR p.poison_id < %(before)s)
ORDER BY p.poison_id DESC
LIMIT %(limit)s OFFSET %(skip)s
