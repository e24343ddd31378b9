-- What operators did to a step, newest first; the 100 newest at most. Parameters: task; step.
SELECT t.created_at AS intervened_at, t.metadata ->> 'event' AS action,
       coalesce(t.metadata ->> 'performed_by', t.metadata ->> 'requested_by') AS performed_by,
       t.metadata ->> 'reason' AS reason, t.from_state, t.to_state
FROM tasker.workflow_step_transitions t
WHERE t.task_uuid = %(task)s AND t.step_uuid = %(step)s AND t.metadata ? 'event'
ORDER BY t.sort_key DESC LIMIT 100
