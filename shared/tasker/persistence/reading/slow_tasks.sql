-- Those of the newest 10,000 tasks that ended or are blocked by failures, by template, slowest first. A blocked one
-- counts as a failure and has no duration yet.
SELECT n.namespace, n.name, n.version, t.average_seconds, t.longest_seconds, t.executions, t.average_steps, t.failures,
       t.last_at
FROM (
    SELECT t.named_task_uuid,
           coalesce(avg(extract(epoch FROM t.terminal_at - t.created_at)), 0)::float AS average_seconds,
           coalesce(max(extract(epoch FROM t.terminal_at - t.created_at)), 0)::float AS longest_seconds,
           count(*) AS executions, avg(t.total_steps)::float AS average_steps,
           count(*) FILTER (WHERE t.state IN ('error', 'blocked_by_failures')) AS failures,
           max(t.updated_at) AS last_at
    FROM (SELECT * FROM tasker.tasks t ORDER BY t.created_at DESC LIMIT 10000) t
    WHERE t.terminal_at IS NOT NULL OR t.state = 'blocked_by_failures'
    GROUP BY t.named_task_uuid
) t
CROSS JOIN LATERAL (
    SELECT ns.name AS namespace, n.name, n.version
    FROM tasker.named_tasks n
    JOIN tasker.task_namespaces ns USING (namespace_id)
    WHERE n.named_task_uuid = t.named_task_uuid LIMIT 1
) n
ORDER BY t.average_seconds DESC, n.namespace, n.name, n.version
