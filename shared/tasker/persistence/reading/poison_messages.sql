-- Messages that nobody could handle, newest first, with the state of the step that each named. For {which} the reader
-- fills in `true`, or the condition on the task, so that its index serves.
-- Parameters: task; before, only older records, null for all; skip; limit.
SELECT p.poison_id, p.queue, p.msg_id, p.message, p.error, p.task_uuid, p.step_uuid, p.recorded_at,
       s.state AS step_state
FROM tasker.poison_messages p
LEFT JOIN LATERAL (
    SELECT s.state FROM tasker.workflow_steps s
    WHERE s.task_uuid = p.task_uuid AND s.step_uuid = p.step_uuid LIMIT 1
) s ON true
WHERE {which} AND p.poison_id < coalesce(%(before)s::bigint, 9223372036854775807)
ORDER BY p.poison_id DESC
LIMIT %(limit)s OFFSET %(skip)s
