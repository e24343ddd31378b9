-- A task as a watch of it begins: the task, on request its steps, and the snapshot that both are seen in. To be filled
-- in: task, the statement that reads it. Parameters: task, at (null), steps (whether to include them).
SELECT pg_current_snapshot()::text AS snapshot, clock.read_at, t.*, s.*
FROM (SELECT tasker.now() AS read_at OFFSET 0) clock
CROSS JOIN ({task}) t
CROSS JOIN LATERAL (
    SELECT array_agg(s.step_uuid) AS step_uuids, array_agg(s.name) AS step_names, array_agg(s.state::text) AS step_states,
           array_agg(s.attempts) AS step_attempts
    FROM (
        -- Ordered, so that the planner takes the primary key and no index that has the task second.
        SELECT s.step_uuid, s.name, s.state, s.attempts FROM tasker.workflow_steps s
        WHERE s.task_uuid = t.task_uuid AND %(steps)s
        ORDER BY s.step_uuid OFFSET 0
    ) s
) s
