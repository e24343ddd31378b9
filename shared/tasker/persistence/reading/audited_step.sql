-- A step and how many results workers submitted for it. Parameters: task; step.
SELECT s.name AS step_name, k.correlation_id, count(t.to_state) AS total
FROM (
    -- The first one from there on, so that the planner takes the primary key and no index that has the task second.
    SELECT * FROM tasker.workflow_steps s
    WHERE s.task_uuid = %(task)s AND s.step_uuid >= %(step)s
    ORDER BY s.step_uuid LIMIT 1
) s
CROSS JOIN LATERAL (SELECT k.correlation_id FROM tasker.tasks k WHERE k.task_uuid = s.task_uuid LIMIT 1) k
LEFT JOIN LATERAL (
    SELECT r.sort_key FROM tasker.step_results r
    WHERE r.task_uuid = s.task_uuid AND r.step_uuid = s.step_uuid
    ORDER BY r.sort_key OFFSET 0
) r ON true
LEFT JOIN LATERAL (
    SELECT t.to_state FROM tasker.workflow_step_transitions t
    WHERE t.task_uuid = s.task_uuid AND t.step_uuid = s.step_uuid AND t.sort_key = r.sort_key
      AND t.to_state IN ('enqueued_for_orchestration', 'enqueued_as_error_for_orchestration')
    LIMIT 1
) t ON true
WHERE s.step_uuid = %(step)s
GROUP BY s.name, k.correlation_id
