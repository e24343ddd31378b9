-- One task with its counts. Parameter: task_uuid.
SELECT t.task_uuid, ns.name, n.name, n.version, t.state, t.priority, t.correlation_id, t.parent_correlation_id,
       t.initiator, t.source_system, t.reason, t.tags, t.context, t.created_at, t.updated_at, t.completed_at,
       t.total_steps, t.satisfied_steps, t.failed_steps, t.in_flight_steps, t.backoff_steps, c.in_progress, c.ready
FROM tasker.tasks t
JOIN tasker.named_tasks n USING (named_task_uuid)
JOIN tasker.task_namespaces ns ON ns.namespace_id = t.namespace_id
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE s.state = 'in_progress') AS in_progress,
           count(*) FILTER (WHERE s.unmet_parents = 0 AND (s.state = 'pending'
               OR (s.state = 'waiting_for_retry' AND s.next_retry_at <= tasker.now()))) AS ready
    FROM (
        -- Ordered, so that the planner takes the primary key and no index that has the task second.
        SELECT * FROM tasker.workflow_steps s WHERE s.task_uuid = t.task_uuid ORDER BY s.step_uuid OFFSET 0
    ) s
) c
WHERE t.task_uuid = %s
