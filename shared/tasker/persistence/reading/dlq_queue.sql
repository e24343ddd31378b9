-- Pending entries, most urgent first, with what their tasks do now. Parameters: scores, an object of the base score of
-- each reason; limit.
SELECT e.dlq_entry_uuid, e.task_uuid, e.original_state, e.dlq_reason, e.dlq_timestamp, e.minutes_in_dlq,
       n.namespace, n.name, t.state::text AS current_state,
       floor(extract(epoch FROM e.read_at - coalesce(x.created_at, t.created_at)) / 60)::integer
           AS time_in_state_minutes,
       e.priority_score
FROM (
    SELECT e.*, clock.now AS read_at, m.minutes_in_dlq,
           (%(scores)s::jsonb ->> e.dlq_reason)::integer + m.minutes_in_dlq AS priority_score
    FROM (SELECT tasker.now() AS now OFFSET 0) clock
    CROSS JOIN tasker.tasks_dlq e
    CROSS JOIN LATERAL (
        SELECT (extract(epoch FROM clock.now - e.dlq_timestamp) / 60)::double precision AS minutes_in_dlq OFFSET 0
    ) m
    WHERE e.resolution_status = 'pending'
    ORDER BY priority_score DESC, e.dlq_entry_uuid LIMIT %(limit)s
) e
LEFT JOIN LATERAL (SELECT * FROM tasker.tasks t WHERE t.task_uuid = e.task_uuid LIMIT 1) t ON true
LEFT JOIN LATERAL tasker.task_name_v1(t.named_task_uuid) n ON true
LEFT JOIN LATERAL (
    SELECT x.created_at FROM tasker.task_transitions x
    WHERE x.task_uuid = t.task_uuid AND x.sort_key = t.sort_key LIMIT 1
) x ON true
ORDER BY e.priority_score DESC, e.dlq_entry_uuid
