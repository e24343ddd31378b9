-- The executions of the newest 10,000 tasks, 50,000 at most, by step of their template, slowest first.
SELECT n.namespace, n.name, n.version, e.step_name, e.average_seconds, e.longest_seconds, e.executions, e.failures,
       e.last_at
FROM (
    SELECT e.named_task_uuid, e.step_name, avg(e.milliseconds)::float / 1000 AS average_seconds,
           max(e.milliseconds)::float / 1000 AS longest_seconds, count(*) AS executions,
           count(*) FILTER (WHERE NOT e.success) AS failures, max(e.recorded_at) AS last_at
    FROM (
        SELECT t.named_task_uuid, s.template_step_name AS step_name, r.success, r.milliseconds, r.recorded_at
        FROM (SELECT * FROM tasker.tasks t ORDER BY t.created_at DESC LIMIT 10000) t
        CROSS JOIN LATERAL (
            -- Fenced and ordered, here and below: the planner takes the primary key, with all of its columns.
            SELECT s.step_uuid, s.template_step_name FROM tasker.workflow_steps s
            WHERE s.task_uuid = t.task_uuid ORDER BY s.step_uuid OFFSET 0
        ) s
        CROSS JOIN LATERAL (
            SELECT r.success, (r.metadata ->> 'execution_time_ms')::bigint AS milliseconds, r.recorded_at
            FROM tasker.step_results r
            WHERE r.task_uuid = t.task_uuid AND r.step_uuid = s.step_uuid AND r.metadata ? 'execution_time_ms'
            ORDER BY r.sort_key OFFSET 0
        ) r
        LIMIT 50000
    ) e
    GROUP BY e.named_task_uuid, e.step_name
) e
CROSS JOIN LATERAL (
    SELECT ns.name AS namespace, n.name, n.version
    FROM tasker.named_tasks n
    JOIN tasker.task_namespaces ns USING (namespace_id)
    WHERE n.named_task_uuid = e.named_task_uuid LIMIT 1
) n
ORDER BY e.average_seconds DESC, n.namespace, n.name, n.version, e.step_name
