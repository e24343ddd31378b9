-- Entries of the dead letter queue: they put tasks before a person. They record; they move and retry nothing.

-- add_dlq_entries_v1: make an entry for each of some tasks whose rows the caller has locked, except where one is
-- pending. p_metadata tells how it came to them; how long the task has been in its state, and how long it may be, is
-- added. p_limits as in task_staleness_v1, null where no limit led here. Returns the new entries.
CREATE OR REPLACE FUNCTION tasker.add_dlq_entries_v1(p_tasks uuid[], p_reason text, p_metadata jsonb, p_limits jsonb)
RETURNS uuid[]
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_now     timestamptz := tasker.now();
    v_entries uuid[];
BEGIN
    WITH made AS (
        INSERT INTO tasker.tasks_dlq
               (dlq_entry_uuid, task_uuid, original_state, dlq_reason, dlq_timestamp, task_snapshot, metadata,
                created_at, updated_at)
        SELECT tasker.uuid7_v1(v_now), t.task_uuid, t.state, p_reason, v_now, t.snapshot,
               p_metadata || jsonb_build_object(
                   'time_in_state_minutes', t.snapshot -> 'time_in_state_minutes',
                   'threshold_minutes', t.snapshot -> 'threshold_minutes'),
               v_now, v_now
        FROM unnest(p_tasks) AS w(task_uuid)
        CROSS JOIN LATERAL (
            SELECT t.task_uuid, t.state, tasker.task_snapshot_v1(t, v_now, p_limits) AS snapshot
            FROM tasker.tasks t WHERE t.task_uuid = w.task_uuid LIMIT 1
        ) t
        ON CONFLICT (task_uuid) WHERE resolution_status = 'pending' DO NOTHING
        RETURNING dlq_entry_uuid
    )
    SELECT coalesce(array_agg(m.dlq_entry_uuid), '{}') INTO v_entries FROM made m;
    RETURN v_entries;
END;
$$;

-- add_blocked_entries_v1: put tasks that failures have just blocked before a person, in the transaction that blocked
-- them. Does nothing in sessions that have set tasker.dlq_max_retries_exceeded to off.
CREATE OR REPLACE FUNCTION tasker.add_blocked_entries_v1(p_tasks uuid[]) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_entries uuid[];
BEGIN
    IF current_setting('tasker.dlq_max_retries_exceeded', true) = 'off' THEN
        RETURN false;
    END IF;
    v_entries := tasker.add_dlq_entries_v1(
        p_tasks, 'max_retries_exceeded', '{"detection_method": "blocked_by_failures"}', NULL);
    RETURN cardinality(v_entries) > 0;
END;
$$;

-- add_dlq_entry_by_hand_v1: make an entry because an operator wants one. Returns whether there is such a task, its
-- pending entry, and whether that was made now.
CREATE OR REPLACE FUNCTION tasker.add_dlq_entry_by_hand_v1(
    p_task uuid, p_metadata jsonb, OUT task_found boolean, OUT dlq_entry_uuid uuid, OUT created boolean)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_entries uuid[];
BEGIN
    PERFORM FROM tasker.tasks t WHERE t.task_uuid = p_task FOR NO KEY UPDATE;
    task_found := FOUND;
    v_entries := tasker.add_dlq_entries_v1(
        ARRAY[p_task], 'manual_dlq', '{"detection_method": "manual"}' || p_metadata, NULL);
    created := cardinality(v_entries) > 0;
    SELECT e.dlq_entry_uuid INTO add_dlq_entry_by_hand_v1.dlq_entry_uuid FROM tasker.tasks_dlq e
    WHERE e.task_uuid = p_task AND e.resolution_status = 'pending';
END;
$$;

-- add_unserved_entries_v1: make entries for up to p_limit tasks of which a step has been queued for p_grace in a
-- namespace that no live worker serves, unless it is paused. Returns the namespaces and how many tasks of each.
CREATE OR REPLACE FUNCTION tasker.add_unserved_entries_v1(p_grace interval, p_limit integer)
RETURNS TABLE (namespace text, tasks integer)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    v_now        timestamptz := tasker.now();
    v_namespaces integer[];
    v_tasks      uuid[];
    v_entries    uuid[];
BEGIN
    SELECT array_agg(ns.namespace_id) INTO v_namespaces
    FROM tasker.task_namespaces ns
    WHERE NOT EXISTS (
        SELECT FROM tasker.workers w
        WHERE w.stopped_at IS NULL AND w.heartbeat_at > v_now - interval '90 seconds' AND ns.name = ANY (w.namespaces))
      AND NOT EXISTS (SELECT FROM tasker.paused_namespaces p WHERE p.namespace = ns.name);

    SELECT array_agg(t.task_uuid) INTO v_tasks
    FROM (
        SELECT t.task_uuid FROM tasker.tasks t
        WHERE t.terminal_at IS NULL AND t.in_flight_steps > 0 AND t.namespace_id = ANY (v_namespaces)
          AND NOT EXISTS (SELECT FROM tasker.tasks_dlq e
                          WHERE e.task_uuid = t.task_uuid AND e.resolution_status = 'pending')
          AND EXISTS (
              SELECT FROM (SELECT * FROM tasker.workflow_steps s WHERE s.task_uuid = t.task_uuid
                           ORDER BY s.step_uuid OFFSET 0) s
              WHERE s.state = 'enqueued' AND s.updated_at <= v_now - p_grace)
        LIMIT p_limit
        FOR NO KEY UPDATE OF t SKIP LOCKED
    ) t;
    v_entries := tasker.add_dlq_entries_v1(
        v_tasks, 'worker_unavailable', '{"detection_method": "no_live_worker"}', NULL);

    RETURN QUERY
    SELECT e.task_snapshot ->> 'namespace', count(*)::integer
    FROM unnest(v_entries) AS w(dlq_entry_uuid)
    CROSS JOIN LATERAL (
        SELECT e.task_snapshot FROM tasker.tasks_dlq e WHERE e.dlq_entry_uuid = w.dlq_entry_uuid LIMIT 1
    ) e
    GROUP BY e.task_snapshot ->> 'namespace';
END;
$$;

-- update_dlq_entry_v1: record what a person found. Null keeps what is there; metadata is replaced as a
-- whole; an entry that leaves `pending` gets its time. An entry that has left it, or that changed after p_expected
-- (null: any time), stays as it is. Returns its status before, null when there is none, and whether it was changed.
CREATE OR REPLACE FUNCTION tasker.update_dlq_entry_v1(
    p_entry uuid, p_status text, p_notes text, p_resolved_by text, p_metadata jsonb, p_expected timestamptz,
    OUT status_before text, OUT updated boolean)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_now timestamptz;
BEGIN
    SELECT e.resolution_status, e.resolution_status = 'pending' AND e.updated_at = coalesce(p_expected, e.updated_at)
    INTO status_before, updated
    FROM tasker.tasks_dlq e WHERE e.dlq_entry_uuid = p_entry
    FOR NO KEY UPDATE;
    IF updated IS NOT TRUE THEN
        updated := false;
        RETURN;
    END IF;

    v_now := tasker.now();
    UPDATE tasker.tasks_dlq e
    SET resolution_status = coalesce(p_status, e.resolution_status),
        resolution_timestamp = CASE WHEN p_status <> 'pending' THEN v_now END,
        resolution_notes = coalesce(p_notes, e.resolution_notes),
        resolved_by = coalesce(p_resolved_by, e.resolved_by),
        metadata = coalesce(p_metadata, e.metadata),
        updated_at = v_now
    WHERE e.dlq_entry_uuid = p_entry;
END;
$$;

-- uuid7_v1: a new uuid that sorts by its instant (RFC 9562 section 5.7), for rows that SQL makes.
CREATE OR REPLACE FUNCTION tasker.uuid7_v1(p_at timestamptz) RETURNS uuid
LANGUAGE sql VOLATILE PARALLEL SAFE AS $$
    SELECT encode(set_bit(set_bit(overlay(
        uuid_send(gen_random_uuid()) PLACING substring(int8send((extract(epoch FROM p_at) * 1000)::bigint) FROM 3)
        FROM 1 FOR 6), 52, 1), 53, 1), 'hex')::uuid
$$;

-- task_snapshot_v1: a locked task as a person will want to have seen it. Of its steps the 50 that are furthest from
-- done, with the beginning of their last error; of its transitions the 20 newest. p_limits as in task_staleness_v1;
-- null where no limit led here.
CREATE OR REPLACE FUNCTION tasker.task_snapshot_v1(p_task tasker.tasks, p_now timestamptz, p_limits jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (
        SELECT jsonb_build_object(
            'task_uuid', (p_task).task_uuid, 'namespace', n.namespace, 'task_name', n.name,
            'current_state', (p_task).state, 'time_in_state_minutes', floor(s.minutes_in_state)::integer,
            'threshold_minutes', coalesce(s.threshold_minutes, 1440), 'snapshot_timestamp', p_now,
            'task_details', jsonb_build_object(
                'version', n.version, 'correlation_id', (p_task).correlation_id, 'priority', (p_task).priority,
                'requested_at', (p_task).requested_at, 'created_at', (p_task).created_at),
            'steps', tasker.snapshot_steps_v1((p_task).task_uuid),
            'recent_transitions', (
                SELECT coalesce(jsonb_agg(jsonb_build_object(
                           'from_state', x.from_state, 'to_state', x.to_state, 'metadata', x.metadata,
                           'created_at', x.created_at) ORDER BY x.sort_key DESC), '[]')
                FROM (SELECT * FROM tasker.task_transitions x WHERE x.task_uuid = (p_task).task_uuid
                      ORDER BY x.sort_key DESC LIMIT 20) x),
            'execution_context', tasker.execution_context_v1(p_task, p_now))
        FROM tasker.task_name_v1((p_task).named_task_uuid) n
        CROSS JOIN LATERAL tasker.task_staleness_v1(p_task, p_now, p_limits) s
    );
END;
$$;

-- snapshot_steps_v1: the steps of a snapshot.
CREATE OR REPLACE FUNCTION tasker.snapshot_steps_v1(p_task uuid) RETURNS jsonb
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (
        SELECT coalesce(jsonb_agg(jsonb_build_object(
                   'step_uuid', s.step_uuid, 'name', s.name, 'state', s.state, 'attempts', s.attempts,
                   'max_attempts', s.max_attempts, 'next_retry_at', s.next_retry_at,
                   'last_attempted_at', s.last_attempted_at, 'updated_at', s.updated_at,
                   'error_type', r.error ->> 'error_type', 'error_message', left(r.error ->> 'message', 500))
                   ORDER BY s.place), '[]')
        FROM (
            SELECT s.*, row_number() OVER (ORDER BY o.satisfied, o.calm, s.step_uuid) AS place
            FROM (SELECT * FROM tasker.workflow_steps s WHERE s.task_uuid = p_task ORDER BY s.step_uuid OFFSET 0) s
            CROSS JOIN LATERAL (
                SELECT s.state IN ('complete', 'resolved_manually') AS satisfied, s.state <> 'error' AS calm OFFSET 0
            ) o
            ORDER BY place LIMIT 50
        ) s
        LEFT JOIN LATERAL (
            SELECT r.error FROM tasker.step_results r
            WHERE r.task_uuid = s.task_uuid AND r.step_uuid = s.step_uuid AND r.sort_key > s.results_after
            ORDER BY r.sort_key DESC LIMIT 1
        ) r ON true
    );
END;
$$;

-- execution_context_v1: the counts of a task's steps and what follows from them (as
-- tasker.domain.step_counts has it).
CREATE OR REPLACE FUNCTION tasker.execution_context_v1(p_task tasker.tasks, p_now timestamptz) RETURNS jsonb
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (
        SELECT jsonb_build_object(
            'total_steps', (p_task).total_steps, 'completed_steps', (p_task).satisfied_steps,
            'failed_steps', (p_task).failed_steps, 'in_flight_steps', (p_task).in_flight_steps,
            'waiting_for_retry_steps', (p_task).backoff_steps, 'ready_steps', c.ready,
            'execution_status', CASE
                WHEN (p_task).failed_steps > 0 THEN 'blocked_by_failures'
                WHEN c.ready > 0 THEN 'has_ready_steps'
                WHEN (p_task).in_flight_steps > 0 THEN 'processing'
                WHEN (p_task).satisfied_steps = (p_task).total_steps AND (p_task).total_steps > 0 THEN 'all_complete'
                ELSE 'waiting_for_dependencies' END,
            'completion_percentage',
                coalesce(round(100.0 * (p_task).satisfied_steps / nullif((p_task).total_steps, 0), 2), 0))
        FROM (
            SELECT count(*) AS ready
            FROM (SELECT * FROM tasker.workflow_steps s WHERE s.task_uuid = (p_task).task_uuid
                  ORDER BY s.step_uuid OFFSET 0) s
            WHERE s.unmet_parents = 0
              AND (s.state = 'pending' OR (s.state = 'waiting_for_retry' AND s.next_retry_at <= p_now))
        ) c
    );
END;
$$;
