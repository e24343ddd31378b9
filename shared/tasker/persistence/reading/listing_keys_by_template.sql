-- A page of the many tasks of some templates: those of each are read in order, then merged. The newest of a template
-- may be older than thousands of others.
SELECT t.task_uuid
FROM unnest(%(templates)s::uuid[]) AS w(named_task_uuid)
CROSS JOIN LATERAL (
    SELECT * FROM tasker.tasks t
    WHERE t.named_task_uuid = w.named_task_uuid AND {conditions} AND {behind}
    ORDER BY {order} LIMIT %(skip)s::bigint + %(limit)s
) t
ORDER BY {order} OFFSET %(skip)s LIMIT %(limit)s
