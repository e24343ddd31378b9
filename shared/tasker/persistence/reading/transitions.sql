-- What was committed on some tasks since earlier readings, and the snapshot that continues after it.
-- One statement for all watchers, so that the rows and the snapshot belong together: the next reading's rows are exactly
-- those that this snapshot cannot see. Parameters: of each line a task, whether to include its steps, and the place of
-- what it has seen among `snapshots` (null: nothing); until, a snapshot that sees all that is wanted, or null.
-- Each task's rows are found by key in a subquery of their own, whatever the statistics say.
-- In the order of their instants, but never against the order of one task's or one step's own: the clock may have been
-- set back between two of them. `at` is the instant in that order.
SELECT pg_current_snapshot()::text AS snapshot, clock.read_at, h.line IS NOT NULL AS found, h.line, h.task_uuid,
       h.step_uuid, h.step_name, h.sort_key, h.from_state, h.to_state, h.attempt,
       max(h.created_at) OVER (PARTITION BY h.line, h.step_uuid ORDER BY h.sort_key) AS at
FROM (SELECT tasker.now() AS read_at OFFSET 0) clock
LEFT JOIN LATERAL (
    WITH lines AS MATERIALIZED (
        SELECT w.task_uuid, w.steps, w.line, (%(snapshots)s::text[])[w.place]::pg_snapshot AS seen
        FROM unnest(%(tasks)s::uuid[], %(steps)s::boolean[], %(places)s::integer[])
             WITH ORDINALITY AS w(task_uuid, steps, place, line)
    )
    SELECT w.line, t.task_uuid, NULL::uuid AS step_uuid, NULL AS step_name, t.sort_key, t.from_state, t.to_state,
           NULL::integer AS attempt, t.created_at
    FROM lines w
    CROSS JOIN LATERAL (SELECT t.* FROM tasker.task_transitions t WHERE t.task_uuid = w.task_uuid OFFSET 0) t
    WHERE (w.seen IS NULL OR NOT pg_visible_in_snapshot(t.xid, w.seen))
      AND (%(until)s::text IS NULL OR pg_visible_in_snapshot(t.xid, %(until)s::text::pg_snapshot))
    UNION ALL
    SELECT w.line, t.task_uuid, t.step_uuid,
           (SELECT s.name FROM tasker.workflow_steps s WHERE s.task_uuid = t.task_uuid AND s.step_uuid = t.step_uuid),
           t.sort_key, t.from_state, t.to_state, t.attempt, t.created_at
    FROM lines w
    CROSS JOIN LATERAL (SELECT t.* FROM tasker.workflow_step_transitions t WHERE t.task_uuid = w.task_uuid OFFSET 0) t
    WHERE w.steps
      AND (w.seen IS NULL OR NOT pg_visible_in_snapshot(t.xid, w.seen))
      AND (%(until)s::text IS NULL OR pg_visible_in_snapshot(t.xid, %(until)s::text::pg_snapshot))
) h ON true
ORDER BY at, h.step_uuid NULLS LAST, h.sort_key
