-- Tasks with their counts, in any order. To be filled in: keys, a query for their task_uuid; context, the column or
-- something smaller; failure, a failed result in brief. Parameter: at, by when steps are ready, null for now.
-- The steps of a task that has only satisfied ones need not be read; what failed is looked for only where the counts say
-- that something did, and how the task ended only where it did not end well.
SELECT t.task_uuid, n.namespace, n.name, n.version, t.state, t.priority, t.correlation_id, t.parent_correlation_id,
       t.initiator, t.source_system, t.reason, t.tags, {context} AS context, t.created_at, t.updated_at, t.completed_at,
       t.total_steps, t.satisfied_steps, t.failed_steps, t.in_flight_steps, t.backoff_steps,
       c.pending AS pending_steps, c.in_progress AS in_progress_steps, c.ready AS ready_steps, f.failing_step, e.ending
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
LEFT JOIN LATERAL (
    -- The first step that failed, else the one that is retried next.
    SELECT jsonb_build_object(
               'step_uuid', s.step_uuid, 'name', s.name, 'state', s.state, 'attempts', s.attempts,
               'max_attempts', s.max_attempts, 'next_retry_at', s.next_retry_at,
               'result', CASE WHEN r.sort_key IS NOT NULL THEN {failure} END) AS failing_step
    FROM (
        SELECT *
        FROM (
            SELECT * FROM tasker.workflow_steps s
            WHERE s.task_uuid = t.task_uuid AND t.failed_steps + t.backoff_steps > 0
            ORDER BY s.step_uuid OFFSET 0
        ) s
        WHERE s.state IN ('error', 'waiting_for_retry')
        ORDER BY s.state <> 'error', s.next_retry_at, s.step_uuid LIMIT 1
    ) s
    LEFT JOIN LATERAL (
        SELECT * FROM tasker.step_results r
        WHERE r.task_uuid = s.task_uuid AND r.step_uuid = s.step_uuid AND r.sort_key > s.results_after
        ORDER BY r.sort_key DESC LIMIT 1
    ) r ON true
) f ON true
LEFT JOIN LATERAL (
    SELECT jsonb_build_object('at', x.created_at, 'metadata', x.metadata) AS ending
    FROM tasker.task_transitions x
    WHERE x.task_uuid = t.task_uuid AND x.sort_key = t.sort_key AND t.state IN ('error', 'cancelled')
    LIMIT 1
) e ON true
