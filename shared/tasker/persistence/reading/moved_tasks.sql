-- Transitions of all tasks that earlier readings could not see, with what tells the tasks apart, and the snapshot of this
-- reading. Parameters: snapshots, what was seen, one for each place; most, how many rows of a place are enough: then all
-- of the last one's transaction, but nothing of later ones.
-- Of what was in progress then each transaction is looked up by itself: one that lasts for hours must not have everything
-- read again that began after it.
-- In the order of their instants, but never against the order of one task's own, whose instant there is `at`.
SELECT pg_current_snapshot()::text AS snapshot, clock.read_at, m.place IS NOT NULL AS found, m.known, m.place, m.xid::text AS xid,
       m.task_uuid, m.sort_key, m.from_state, m.to_state, m.tags, m.correlation_id, m.name, m.namespace,
       max(m.created_at) OVER (PARTITION BY m.place, m.task_uuid ORDER BY m.sort_key) AS at
FROM (SELECT tasker.now() AS read_at OFFSET 0) clock
LEFT JOIN LATERAL (
    SELECT w.place, t.*, k.task_uuid IS NOT NULL AS known, k.tags, k.correlation_id, n.name, ns.name AS namespace
    FROM unnest(%(snapshots)s::text[]) WITH ORDINALITY AS w(snapshot, place)
    CROSS JOIN LATERAL (
        (SELECT t.* FROM tasker.task_transitions t
         WHERE t.xid >= pg_snapshot_xmax(w.snapshot::pg_snapshot)
         ORDER BY t.xid FETCH FIRST (%(most)s::bigint) ROWS WITH TIES)
        UNION ALL
        SELECT t.* FROM pg_snapshot_xip(w.snapshot::pg_snapshot) r(xid)
        CROSS JOIN LATERAL (SELECT t.* FROM tasker.task_transitions t WHERE t.xid = r.xid OFFSET 0) t
    ) t
    -- Left joins: a row too few would tell that nothing follows. A task may have been deleted.
    LEFT JOIN LATERAL (SELECT * FROM tasker.tasks k WHERE k.task_uuid = t.task_uuid LIMIT 1) k ON true
    LEFT JOIN tasker.named_tasks n ON n.named_task_uuid = k.named_task_uuid
    LEFT JOIN tasker.task_namespaces ns ON ns.namespace_id = n.namespace_id
) m ON true
ORDER BY at, m.task_uuid, m.sort_key
