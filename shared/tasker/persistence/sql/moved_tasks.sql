-- Which of some tasks have transitions that an earlier reading could not see, and the next cursor.
-- Parameters: tasks, cursor.
SELECT pg_current_snapshot()::text, w.task_uuid
FROM (SELECT 1) one
LEFT JOIN unnest(%(tasks)s::uuid[]) AS w(task_uuid) ON EXISTS (
    SELECT FROM tasker.task_transitions t WHERE t.task_uuid = w.task_uuid
    AND (%(cursor)s::text IS NULL OR NOT pg_visible_in_snapshot(t.xid, %(cursor)s::text::pg_snapshot))
) OR EXISTS (
    SELECT FROM tasker.workflow_step_transitions t WHERE t.task_uuid = w.task_uuid
    AND (%(cursor)s::text IS NULL OR NOT pg_visible_in_snapshot(t.xid, %(cursor)s::text::pg_snapshot))
)
