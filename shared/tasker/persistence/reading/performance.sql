-- What became of the newest tasks created in a period, and of their executions. Parameter: hours, 0 for all time.
-- However long the period is, 10,000 tasks and 50,000 executions are looked at: newest first, by index.
WITH period AS (
    SELECT n.now, CASE WHEN %(hours)s::integer = 0 THEN '-infinity'::timestamptz
                       ELSE n.now - make_interval(hours => %(hours)s::integer) END AS since
    FROM tasker.now() AS n(now)
), recent AS MATERIALIZED (
    SELECT t.*
    FROM period p
    CROSS JOIN LATERAL (
        SELECT t.task_uuid, t.state, t.created_at, t.completed_at, t.terminal_at, t.satisfied_steps + t.failed_steps AS steps
        FROM tasker.tasks t
        WHERE t.created_at >= p.since
        ORDER BY t.created_at DESC LIMIT 10000
    ) t
), executions AS (
    SELECT e.success, e.milliseconds
    FROM recent t
    CROSS JOIN LATERAL (
        SELECT r.success, (r.metadata ->> 'execution_time_ms')::bigint AS milliseconds
        FROM tasker.step_results r
        WHERE r.task_uuid = t.task_uuid AND r.metadata ? 'execution_time_ms'
        ORDER BY r.step_uuid, r.sort_key OFFSET 0  -- a fence: by primary key, task by task
    ) e
    LIMIT 50000
)
SELECT p.now AS calculated_at,
       CASE WHEN p.since = '-infinity' OR t.total >= 10000 THEN coalesce(t.oldest, p.now) ELSE p.since END AS since,
       t.total >= 10000 AS is_partial,
       t.total, t.active, t.complete, t.failed, t.average_seconds, t.steps,
       e.executions, e.failed_executions, e.average_execution_ms
FROM period p
CROSS JOIN (
    SELECT count(*) AS total,
           count(*) FILTER (WHERE terminal_at IS NULL) AS active,
           count(*) FILTER (WHERE state = 'complete') AS complete,
           count(*) FILTER (WHERE state IN ('error', 'blocked_by_failures')) AS failed,
           coalesce(avg(extract(epoch FROM completed_at - created_at)), 0)::float AS average_seconds,
           coalesce(sum(steps), 0)::bigint AS steps,
           min(created_at) AS oldest
    FROM recent
) t
CROSS JOIN (
    SELECT count(*) AS executions, count(*) FILTER (WHERE NOT success) AS failed_executions,
           coalesce(avg(milliseconds), 0)::float AS average_execution_ms
    FROM executions
) e
