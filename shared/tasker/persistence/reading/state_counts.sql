-- How many tasks, and how many of their steps, are in which state: the newest 10,000 tasks, and the oldest 10,000 that
-- are open; of their steps 50,000. Steps that are open come before those of tasks that ended.
WITH chosen AS MATERIALIZED (
    SELECT t.task_uuid, t.state, t.terminal_at
    FROM (SELECT * FROM tasker.tasks t WHERE t.terminal_at IS NULL ORDER BY t.task_uuid LIMIT 10000) t
    UNION
    SELECT t.task_uuid, t.state, t.terminal_at
    FROM (SELECT * FROM tasker.tasks t ORDER BY t.created_at DESC LIMIT 10000) t
)
SELECT 'tasks' AS of_what, t.state::text AS state, count(*) AS count FROM chosen t GROUP BY t.state
UNION ALL
SELECT 'steps', s.state, count(*)
FROM (
    SELECT s.state
    FROM (SELECT * FROM chosen t ORDER BY t.terminal_at NULLS FIRST OFFSET 0) t
    CROSS JOIN LATERAL (
        SELECT s.state::text FROM tasker.workflow_steps s
        WHERE s.task_uuid = t.task_uuid ORDER BY s.step_uuid OFFSET 0
    ) s
    LIMIT 50000
) s
GROUP BY s.state
