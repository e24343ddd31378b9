-- Which of some tasks have transitions that an earlier reading could not see, and the next cursor.
-- Parameters: tasks, cursor. LIMIT keeps the planner from reading all transitions there are into a hash table.
SELECT pg_current_snapshot()::text AS cursor, h.task_uuid
FROM (SELECT 1) one
LEFT JOIN LATERAL (
    SELECT w.task_uuid
    FROM unnest(%(tasks)s::uuid[]) AS w(task_uuid)
    CROSS JOIN LATERAL (
        SELECT FROM tasker.task_transitions t WHERE t.task_uuid = w.task_uuid
        AND (%(cursor)s::text IS NULL OR NOT pg_visible_in_snapshot(t.xid, %(cursor)s::text::pg_snapshot))
        UNION ALL
        SELECT FROM tasker.workflow_step_transitions t WHERE t.task_uuid = w.task_uuid
        AND (%(cursor)s::text IS NULL OR NOT pg_visible_in_snapshot(t.xid, %(cursor)s::text::pg_snapshot))
        LIMIT 1
    ) t
) h ON true
