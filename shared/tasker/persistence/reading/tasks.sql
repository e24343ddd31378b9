-- Tasks with their counts, in any order. To be filled in: keys, a query for their task_uuid; context, the column or
-- something smaller. Parameter: at, by when steps are ready, null for now.
-- The steps of a task that has only satisfied ones need not be read.
SELECT t.task_uuid, n.namespace, n.name, n.version, t.state, t.priority, t.correlation_id, t.parent_correlation_id,
       t.initiator, t.source_system, t.reason, t.tags, {context} AS context, t.created_at, t.updated_at, t.completed_at,
       t.total_steps, t.satisfied_steps, t.failed_steps, t.in_flight_steps, t.backoff_steps,
       c.pending AS pending_steps, c.in_progress AS in_progress_steps, c.ready AS ready_steps
FROM ({keys}) k
CROSS JOIN LATERAL (SELECT * FROM tasker.tasks t WHERE t.task_uuid = k.task_uuid LIMIT 1) t
CROSS JOIN LATERAL (
    SELECT ns.name AS namespace, n.name, n.version
    FROM tasker.named_tasks n
    JOIN tasker.task_namespaces ns USING (namespace_id)
    WHERE n.named_task_uuid = t.named_task_uuid
    LIMIT 1
) n
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE s.state = 'pending') AS pending,
           count(*) FILTER (WHERE s.state = 'in_progress') AS in_progress,
           count(*) FILTER (WHERE s.unmet_parents = 0 AND (s.state = 'pending'
               OR (s.state = 'waiting_for_retry' AND s.next_retry_at <= coalesce(%(at)s::timestamptz, tasker.now())))) AS ready
    FROM (
        -- Ordered, so that the planner takes the primary key and no index that has the task second.
        SELECT * FROM tasker.workflow_steps s
        WHERE s.task_uuid = t.task_uuid AND t.satisfied_steps < t.total_steps
        ORDER BY s.step_uuid OFFSET 0
    ) s
) c
