-- Pending entries, most urgent first, with what their tasks do now. The weight of a reason is as good as that many
-- minutes, so that the order never changes as time goes by: urgent_since is where a page goes on.
-- Parameters: scores, an object of the base score of each reason; after_since and after_entry, the last entry of the page
-- before, null for none; skip so many; limit.
SELECT e.dlq_entry_uuid, e.task_uuid, e.original_state, e.dlq_reason, e.dlq_timestamp, e.minutes_in_dlq,
       n.namespace, n.name, t.state::text AS current_state,
       floor(extract(epoch FROM e.read_at - coalesce(x.created_at, t.created_at)) / 60)::integer
           AS time_in_state_minutes,
       e.score + e.minutes_in_dlq AS priority_score, e.urgent_since
FROM (
    SELECT e.*, clock.now AS read_at, w.score, w.urgent_since,
           (extract(epoch FROM clock.now - e.dlq_timestamp) / 60)::double precision AS minutes_in_dlq
    FROM (SELECT tasker.now() AS now OFFSET 0) clock
    CROSS JOIN tasker.tasks_dlq e
    CROSS JOIN LATERAL (SELECT (%(scores)s::jsonb ->> e.dlq_reason)::integer AS score OFFSET 0) s
    CROSS JOIN LATERAL (SELECT s.score, e.dlq_timestamp - make_interval(mins => s.score) AS urgent_since OFFSET 0) w
    WHERE e.resolution_status = 'pending'
      AND (%(after_entry)s::uuid IS NULL
           OR (w.urgent_since, e.dlq_entry_uuid) > (%(after_since)s::timestamptz, %(after_entry)s::uuid))
    ORDER BY w.urgent_since, e.dlq_entry_uuid OFFSET %(skip)s LIMIT %(limit)s
) e
LEFT JOIN LATERAL (SELECT * FROM tasker.tasks t WHERE t.task_uuid = e.task_uuid LIMIT 1) t ON true
LEFT JOIN LATERAL tasker.task_name_v1(t.named_task_uuid) n ON true
LEFT JOIN LATERAL (
    SELECT x.created_at FROM tasker.task_transitions x
    WHERE x.task_uuid = t.task_uuid AND x.sort_key = t.sort_key LIMIT 1
) x ON true
ORDER BY e.urgent_since, e.dlq_entry_uuid
