-- What was committed on some tasks since an earlier reading, and the cursor that continues after it.
-- One statement, so that the rows and the cursor belong to one snapshot: the next reading's rows are exactly those
-- that this snapshot cannot see. Parameters: tasks, steps (whether to include them), cursor (null: everything).
-- Each task's rows are found by key in a subquery of their own, whatever the statistics say.
-- In the order of their instants, but never against the order of one task's or one step's own: the clock may have been
-- set back between two of them.
SELECT pg_current_snapshot()::text AS cursor, h.task_uuid IS NOT NULL AS found, h.*
FROM (SELECT 1) one
LEFT JOIN LATERAL (
    SELECT t.task_uuid, NULL::uuid AS step_uuid, NULL AS step_name, t.sort_key, t.from_state, t.to_state,
           NULL::integer AS attempt, t.created_at
    FROM unnest(%(tasks)s::uuid[]) AS w(task_uuid)
    CROSS JOIN LATERAL (SELECT t.* FROM tasker.task_transitions t WHERE t.task_uuid = w.task_uuid OFFSET 0) t
    WHERE %(cursor)s::text IS NULL OR NOT pg_visible_in_snapshot(t.xid, %(cursor)s::text::pg_snapshot)
    UNION ALL
    SELECT t.task_uuid, t.step_uuid,
           (SELECT s.name FROM tasker.workflow_steps s WHERE s.task_uuid = t.task_uuid AND s.step_uuid = t.step_uuid),
           t.sort_key, t.from_state, t.to_state, t.attempt, t.created_at
    FROM unnest(%(tasks)s::uuid[]) AS w(task_uuid)
    CROSS JOIN LATERAL (SELECT t.* FROM tasker.workflow_step_transitions t WHERE t.task_uuid = w.task_uuid OFFSET 0) t
    WHERE %(steps)s
      AND (%(cursor)s::text IS NULL OR NOT pg_visible_in_snapshot(t.xid, %(cursor)s::text::pg_snapshot))
) h ON true
ORDER BY max(h.created_at) OVER (PARTITION BY h.task_uuid, h.step_uuid ORDER BY h.sort_key),
         h.step_uuid NULLS LAST, h.sort_key
