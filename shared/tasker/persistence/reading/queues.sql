-- Queues and what is in them: those of orchestration, then those of namespaces, each from the highest band on. Queues
-- that nobody has used yet are left out. Parameters: namespace, only its queues, null for all; most, how many messages
-- of each are counted.
SELECT q.name, q.namespace, q.band, s.visible, s.delayed,
       extract(epoch FROM n.now - s.oldest_at)::double precision AS oldest_age_seconds,
       (SELECT count(*) FROM tasker.workers w
        WHERE w.stopped_at IS NULL AND w.heartbeat_at > n.now - interval '90 seconds'
          AND q.namespace = ANY (w.namespaces)) AS workers
FROM (SELECT tasker.now()) AS n(now)
CROSS JOIN (
    SELECT o.name, NULL AS namespace, NULL AS band, o.place
    FROM unnest(ARRAY['orchestration_step_results', 'orchestration_step_judgements']) WITH ORDINALITY AS o(name, place)
    WHERE %(namespace)s::text IS NULL
    UNION ALL
    SELECT w.name, ns.name, (ARRAY['high', 'normal', 'low'])[w.place], w.place
    FROM tasker.task_namespaces ns
    CROSS JOIN LATERAL unnest(tasker.worker_queues_v1(ns.name)) WITH ORDINALITY AS w(name, place)
    WHERE %(namespace)s::text IS NULL OR ns.name = %(namespace)s
) q
CROSS JOIN LATERAL tasker.queue_status_v1(q.name, %(most)s) s
ORDER BY q.namespace NULLS FIRST, q.place
