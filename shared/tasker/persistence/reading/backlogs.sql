-- How many messages wait for workers, by namespace, and for orchestration: there the namespace is null. Parameters:
-- orchestration, its queues; exact, up to how many of a queue are counted rather than estimated.
SELECT n.name AS namespace, sum(d.depth)::bigint AS depth
FROM tasker.task_namespaces n
CROSS JOIN (VALUES (1::smallint), (0::smallint), (-1::smallint)) AS band(priority)
CROSS JOIN LATERAL tasker.queue_depth_v1(tasker.worker_queue_v1(n.name, band.priority), %(exact)s) AS d(depth)
GROUP BY n.name
UNION ALL
SELECT NULL, sum(d.depth)::bigint
FROM unnest(%(orchestration)s::text[]) AS q(queue)
CROSS JOIN LATERAL tasker.queue_depth_v1(q.queue, %(exact)s) AS d(depth)
