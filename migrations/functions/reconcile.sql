-- reconcile_tasks_v1: recompute what up to p_limit open tasks keep about themselves, and evaluate them again.
-- Takes the tasks after p_after that nothing has changed for p_grace. Counts and unmet parents are recomputed
-- from the steps and edges; a difference is returned, for it is a defect. An `in_progress` step without a lease
-- gets an expired one for the sweeper; a step whose message is in no queue gets a new one (a duplicate
-- would do no harm). Returns one row a task.
CREATE OR REPLACE FUNCTION tasker.reconcile_tasks_v1(p_after uuid, p_limit integer, p_grace interval)
RETURNS TABLE (task_uuid uuid, drift jsonb, resent integer)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    v_now     timestamptz := tasker.now();
    v_open    uuid[];
    v_changes tasker.task_change[];
    v_drift   jsonb;
    v_unmet   jsonb;
    v_resent  uuid[];
    v_sent    boolean;
BEGIN
    SELECT array_agg(l.task_uuid) INTO v_open
    FROM (
        SELECT t.task_uuid FROM tasker.tasks t
        WHERE t.terminal_at IS NULL AND t.task_uuid > p_after AND t.updated_at <= v_now - p_grace
        ORDER BY t.task_uuid LIMIT p_limit
        FOR NO KEY UPDATE SKIP LOCKED
    ) l;
    IF v_open IS NULL THEN
        RETURN;
    END IF;

    WITH truth AS (
        SELECT c.task_uuid, c.step_uuid, count(DISTINCT e.from_step_uuid) AS parents,
               count(DISTINCT e.from_step_uuid) FILTER (WHERE p.state NOT IN ('complete', 'resolved_manually')) AS unmet
        FROM tasker.workflow_steps c
        LEFT JOIN tasker.workflow_step_edges e ON e.task_uuid = c.task_uuid AND e.to_step_uuid = c.step_uuid
        LEFT JOIN tasker.workflow_steps p ON p.task_uuid = e.task_uuid AND p.step_uuid = e.from_step_uuid
        WHERE c.task_uuid = ANY (v_open) AND c.state = 'pending'
        GROUP BY c.task_uuid, c.step_uuid
    ), wrong AS (
        SELECT t.*, s.unmet_parents AS stored FROM truth t
        JOIN tasker.workflow_steps s ON s.task_uuid = t.task_uuid AND s.step_uuid = t.step_uuid
        WHERE (s.total_parents, s.unmet_parents) <> (t.parents, t.unmet)
        ORDER BY s.step_uuid
        FOR NO KEY UPDATE OF s
    ), corrected AS (
        UPDATE tasker.workflow_steps s SET total_parents = w.parents, unmet_parents = w.unmet
        FROM wrong w WHERE s.task_uuid = w.task_uuid AND s.step_uuid = w.step_uuid
        RETURNING s.task_uuid, s.name, w.stored, w.unmet
    )
    SELECT jsonb_object_agg(c.task_uuid, c.steps) INTO v_unmet
    FROM (SELECT task_uuid, jsonb_object_agg(name, jsonb_build_array(stored, unmet)) AS steps
          FROM corrected GROUP BY task_uuid) c;

    WITH truth AS (
        SELECT s.task_uuid, count(*)::integer AS total,
               count(*) FILTER (WHERE s.state IN ('complete', 'resolved_manually'))::integer AS satisfied,
               count(*) FILTER (WHERE s.state = 'error')::integer AS failed,
               count(*) FILTER (WHERE s.state IN ('enqueued', 'in_progress', 'enqueued_for_orchestration',
                                                  'enqueued_as_error_for_orchestration'))::integer AS in_flight,
               count(*) FILTER (WHERE s.state = 'waiting_for_retry')::integer AS backoff
        FROM tasker.workflow_steps s WHERE s.task_uuid = ANY (v_open) GROUP BY s.task_uuid
    ), difference AS (
        SELECT t.task_uuid, r.total - t.total_steps AS total, r.satisfied - t.satisfied_steps AS satisfied,
               r.failed - t.failed_steps AS failed, r.in_flight - t.in_flight_steps AS in_flight,
               r.backoff - t.backoff_steps AS backoff
        FROM tasker.tasks t JOIN truth r ON r.task_uuid = t.task_uuid
    )
    SELECT array_agg(ROW (d.task_uuid, d.total, d.satisfied, d.failed, d.in_flight, d.backoff)::tasker.task_change),
           jsonb_object_agg(d.task_uuid, to_jsonb(d) - 'task_uuid')
               FILTER (WHERE (d.total, d.satisfied, d.failed, d.in_flight, d.backoff) <> (0, 0, 0, 0, 0))
    INTO v_changes, v_drift
    FROM difference d;

    v_sent := tasker.send_steps_v1(tasker.advance_tasks_v1(v_changes, NULL, NULL, true));

    INSERT INTO tasker.step_leases (task_uuid, step_uuid, lease_token, worker_uuid, attempt, expires_at)
    SELECT s.task_uuid, s.step_uuid, gen_random_uuid(), '00000000-0000-0000-0000-000000000000', s.attempts, v_now
    FROM (
        -- Locked, since a submit may be ending the lease right now: nothing would end a lease made after it.
        SELECT s.task_uuid, s.step_uuid, s.attempts FROM tasker.workflow_steps s
        WHERE s.task_uuid = ANY (v_open) AND s.state = 'in_progress' AND s.updated_at <= v_now - p_grace
          AND NOT EXISTS (SELECT FROM tasker.step_leases l
                          WHERE l.task_uuid = s.task_uuid AND l.step_uuid = s.step_uuid)
        FOR NO KEY UPDATE OF s SKIP LOCKED
    ) s
    ON CONFLICT DO NOTHING;

    v_resent := tasker.resend_messages_v1(v_open, v_now - p_grace);

    RETURN QUERY
    SELECT o.task_uuid,
           nullif(coalesce(v_drift -> o.task_uuid::text, '{}')
                  || CASE WHEN v_unmet ? o.task_uuid::text
                          THEN jsonb_build_object('unmet_parents', v_unmet -> o.task_uuid::text) ELSE '{}' END, '{}'),
           (SELECT count(*)::integer FROM tasker.workflow_steps s
            WHERE s.task_uuid = o.task_uuid AND s.step_uuid = ANY (v_resent))
    FROM unnest(v_open) AS o(task_uuid);
END;
$$;

-- requeue_task_v1: send again the messages of an open task that are in no queue. Returns the state of the task (null:
-- there is no such task) and how many were sent, null when it is over.
CREATE OR REPLACE FUNCTION tasker.requeue_task_v1(p_task uuid, OUT from_state text, OUT messages integer)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_open boolean;
BEGIN
    SELECT t.state, t.terminal_at IS NULL INTO from_state, v_open FROM tasker.tasks t
    WHERE t.task_uuid = p_task
    FOR NO KEY UPDATE;
    IF v_open THEN
        messages := cardinality(tasker.resend_messages_v1(ARRAY[p_task], 'infinity'));
    END IF;
END;
$$;

-- resend_messages_v1: send again the messages that are in no queue, of steps of some tasks that nothing has changed
-- since p_before and that wait for a worker or for orchestration; return these steps.
CREATE OR REPLACE FUNCTION tasker.resend_messages_v1(p_tasks uuid[], p_before timestamptz) RETURNS uuid[]
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_queue  text;
    v_tasks  uuid[];
    v_steps  uuid[];
    v_resent uuid[] := '{}';
BEGIN
    FOR v_queue, v_tasks, v_steps IN
        SELECT w.queue, array_agg(w.task_uuid), array_agg(w.step_uuid)
        FROM (
            SELECT s.task_uuid, s.step_uuid, CASE
                WHEN s.state = 'enqueued' THEN t.queue
                WHEN s.state = 'enqueued_for_orchestration' AND s.step_type NOT IN ('decision', 'batchable')
                THEN 'orchestration_step_results'
                ELSE 'orchestration_step_judgements' END AS queue
            FROM unnest(p_tasks) AS w(task_uuid)
            CROSS JOIN LATERAL (
                SELECT (SELECT tasker.worker_queue_v1(ns.name, t.priority)
                        FROM tasker.task_namespaces ns WHERE ns.namespace_id = t.namespace_id) AS queue
                FROM tasker.tasks t WHERE t.task_uuid = w.task_uuid LIMIT 1
            ) t
            CROSS JOIN LATERAL (
                -- Ordered, so that the planner takes the primary key and no index that has the task second.
                SELECT s.task_uuid, s.step_uuid, s.state, s.step_type FROM tasker.workflow_steps s
                WHERE s.task_uuid = w.task_uuid AND s.updated_at <= p_before
                  AND s.state IN ('enqueued', 'enqueued_for_orchestration', 'enqueued_as_error_for_orchestration')
                ORDER BY s.step_uuid OFFSET 0
            ) s
        ) w
        GROUP BY w.queue
    LOOP
        v_steps := tasker.resend_steps_v1(v_queue, v_tasks, v_steps);
        v_resent := v_resent || v_steps;
    END LOOP;
    RETURN v_resent;
END;
$$;

-- resend_steps_v1: send again the messages that are no longer in the queue; return their steps.
CREATE OR REPLACE FUNCTION tasker.resend_steps_v1(p_queue text, p_tasks uuid[], p_steps uuid[]) RETURNS uuid[]
LANGUAGE plpgsql VOLATILE
SET enable_hashjoin = on AS $$
DECLARE
    v_tasks uuid[];
    v_steps uuid[];
    v_done  boolean;
BEGIN
    v_done := tasker.ensure_queue_v1(p_queue);
    -- One pass over the queue, hashed: a long backlog is read once for all of them.
    EXECUTE format($sql$
        SELECT array_agg(w.task_uuid), array_agg(w.step_uuid)
        FROM unnest($1, $2) AS w(task_uuid, step_uuid)
        WHERE NOT EXISTS (SELECT FROM pgmq.%I m WHERE m.message ->> 'step_uuid' = w.step_uuid::text)
    $sql$, 'q_' || p_queue) INTO v_tasks, v_steps USING p_tasks, p_steps;
    IF v_steps IS NULL THEN
        RETURN '{}';
    END IF;

    v_done := tasker.push_steps_v1(p_queue, v_tasks, v_steps);
    RETURN v_steps;
END;
$$;
