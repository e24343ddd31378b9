-- phase: pre
-- Tasks that stand still, and the entries that put them before a person.

-- What a template says about standing still, where it is read without its steps: for each open task, again and again.
ALTER TABLE tasker.template_revisions
    ADD COLUMN lifecycle jsonb GENERATED ALWAYS AS (template -> 'lifecycle') STORED;

-- Entries newest first. Only inserts touch it: no column of it ever changes.
CREATE INDEX tasks_dlq_timestamp_idx ON tasker.tasks_dlq (dlq_timestamp, dlq_entry_uuid);

-- uuid7_v1: a new uuid that sorts by its instant (RFC 9562 section 5.7), for rows that SQL makes.
CREATE FUNCTION tasker.uuid7_v1(p_at timestamptz) RETURNS uuid
LANGUAGE sql VOLATILE PARALLEL SAFE AS $$
    SELECT encode(set_bit(set_bit(overlay(
        uuid_send(gen_random_uuid()) PLACING substring(int8send((extract(epoch FROM p_at) * 1000)::bigint) FROM 3)
        FROM 1 FOR 6), 52, 1), 53, 1), 'hex')::uuid
$$;

-- instant_v1: the instant that a text names, null if it names none.
CREATE FUNCTION tasker.instant_v1(p_text text) RETURNS timestamptz
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN p_text::timestamptz;
EXCEPTION WHEN data_exception THEN
    RETURN NULL;
END;
$$;

-- task_name_v1: what a task is called: namespace, name and version of its template.
CREATE FUNCTION tasker.task_name_v1(p_named_task uuid) RETURNS TABLE (namespace text, name text, version text)
LANGUAGE sql STABLE AS $$
    SELECT ns.name, n.name, n.version
    FROM (SELECT * FROM tasker.named_tasks n WHERE n.named_task_uuid = p_named_task LIMIT 1) n
    CROSS JOIN LATERAL (SELECT * FROM tasker.task_namespaces ns WHERE ns.namespace_id = n.namespace_id LIMIT 1) ns
$$;

-- task_busy_v1: whether somebody is at a task's steps or will be: a lease is alive, or the sweeper has not had its turn
-- at it (one minute); a step is queued for a worker; or every running instance of its batches has yielded a checkpoint
-- within p_stall. Such a task does not stand still.
CREATE FUNCTION tasker.task_busy_v1(p_task uuid, p_now timestamptz, p_stall interval) RETURNS boolean
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN EXISTS (
        SELECT FROM tasker.step_leases l WHERE l.task_uuid = p_task AND l.expires_at > p_now - interval '1 minute'
    ) OR coalesce((
        SELECT bool_or(s.state = 'enqueued')
               OR bool_and(coalesce(tasker.instant_v1(s.checkpoint ->> 'timestamp') > p_now - p_stall, false))
                  FILTER (WHERE s.state = 'in_progress' AND s.batch_step_uuid IS NOT NULL)
        FROM (
            -- Ordered, so that the planner takes the primary key and no index that has the task second.
            SELECT * FROM tasker.workflow_steps s
            WHERE s.task_uuid = p_task AND s.state IN ('enqueued', 'in_progress')
            ORDER BY s.step_uuid OFFSET 0
        ) s
    ), false);
END;
$$;

-- task_staleness_v1: how long a task has been where it is, held against its limits. Monitoring, detection and the
-- check under the lock all ask this function and none other.
-- p_limits: minutes by state, `task_max_lifetime` and `checkpoint_stall` in minutes, `warning_percentage`
-- (tasker.domain.staleness). What the task's template says comes before the limits of its state and its lifetime.
-- The clock of waiting_for_retry starts when the earliest retry is due: waiting for it is what the task should do.
-- That of steps_in_process starts with the newest change of a step: a task whose steps move on stays in that state.
-- The percentage is that of whichever limit is nearer. A plain query, so that it becomes part of the one that asks.
CREATE FUNCTION tasker.task_staleness_v1(p_task tasker.tasks, p_now timestamptz, p_limits jsonb)
RETURNS TABLE (
    since timestamptz, minutes_in_state double precision, age_minutes double precision, threshold_minutes integer,
    percentage double precision, minutes_until_stale double precision, health text, lifecycle jsonb)
LANGUAGE sql STABLE AS $$
    SELECT c.since, m.in_state, m.age, l.threshold, p.percentage,
           greatest(0, least(l.threshold - m.in_state, l.lifetime - m.age)),
           CASE WHEN p.percentage < (p_limits ->> 'warning_percentage')::double precision THEN 'healthy'
                WHEN (p_task).state = 'steps_in_process' AND tasker.task_busy_v1(
                    (p_task).task_uuid, p_now, make_interval(mins => (p_limits ->> 'checkpoint_stall')::integer))
                THEN 'healthy'
                WHEN p.percentage < 100 THEN 'warning'
                ELSE 'stale' END,
           r.lifecycle
    FROM (SELECT greatest(
              coalesce((SELECT x.created_at FROM tasker.task_transitions x
                        WHERE x.task_uuid = (p_task).task_uuid AND x.sort_key = (p_task).sort_key),
                       (p_task).created_at),
              CASE WHEN (p_task).state = 'waiting_for_retry' THEN (
                  SELECT min(s.next_retry_at)
                  FROM (SELECT * FROM tasker.workflow_steps s
                        WHERE s.task_uuid = (p_task).task_uuid AND s.state = 'waiting_for_retry'
                        ORDER BY s.step_uuid OFFSET 0) s)
                   WHEN (p_task).state = 'steps_in_process' THEN (
                  SELECT max(s.updated_at)
                  FROM (SELECT * FROM tasker.workflow_steps s
                        WHERE s.task_uuid = (p_task).task_uuid
                        ORDER BY s.step_uuid OFFSET 0) s)
              END) AS since
          OFFSET 0) c
    LEFT JOIN LATERAL (
        SELECT r.lifecycle FROM tasker.template_revisions r
        WHERE r.template_digest = (p_task).template_digest LIMIT 1
    ) r ON true
    CROSS JOIN LATERAL (
        SELECT greatest(0, extract(epoch FROM p_now - c.since) / 60)::double precision AS in_state,
               (extract(epoch FROM p_now - (p_task).created_at) / 60)::double precision AS age
        OFFSET 0
    ) m
    CROSS JOIN LATERAL (
        SELECT coalesce((r.lifecycle ->> ('max_' || (p_task).state || '_minutes'))::integer,
                        (p_limits ->> (p_task).state)::integer) AS threshold,
               coalesce((r.lifecycle ->> 'max_duration_minutes')::integer,
                        (p_limits ->> 'task_max_lifetime')::integer) AS lifetime
        OFFSET 0
    ) l
    CROSS JOIN LATERAL (
        -- A limit of 0 is reached at once.
        SELECT greatest(coalesce(100 * m.in_state / nullif(l.threshold, 0), 100),
                        coalesce(100 * m.age / nullif(l.lifetime, 0), 100)) AS percentage
        OFFSET 0
    ) p
$$;

-- stale_tasks_v1: up to p_limit tasks that are stale and have no pending entry, longest in their state first, behind
-- the last one of the page before. Reads open tasks only.
CREATE FUNCTION tasker.stale_tasks_v1(
    p_limits jsonb, p_limit integer, p_after_since timestamptz, p_after_task uuid)
RETURNS TABLE (
    task_uuid uuid, state text, namespace text, name text, lifecycle jsonb, since timestamptz,
    minutes_in_state double precision, threshold_minutes integer)
LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
DECLARE
    v_now timestamptz := tasker.now();
BEGIN
    RETURN QUERY
    SELECT s.task_uuid, s.state::text, n.namespace, n.name, s.lifecycle, s.since, s.minutes_in_state,
           s.threshold_minutes
    FROM (
        SELECT t.task_uuid, t.state, t.named_task_uuid, s.*
        FROM tasker.tasks t
        CROSS JOIN LATERAL tasker.task_staleness_v1(t, v_now, p_limits) s
        WHERE t.terminal_at IS NULL
          AND t.state IN ('waiting_for_dependencies', 'waiting_for_retry', 'steps_in_process')
          AND s.health = 'stale'
          AND (s.since, t.task_uuid) > (p_after_since, p_after_task)
          AND NOT EXISTS (SELECT FROM tasker.tasks_dlq e
                          WHERE e.task_uuid = t.task_uuid AND e.resolution_status = 'pending')
        ORDER BY s.since, t.task_uuid LIMIT p_limit
    ) s
    CROSS JOIN LATERAL tasker.task_name_v1(s.named_task_uuid) n
    ORDER BY s.since, s.task_uuid;
END;
$$;

-- task_snapshot_v1: a held task as a person will want to have seen it. Of its steps the 50 that are furthest from done,
-- with the beginning of their last error; of its transitions the 20 newest. p_limits as above; null where no limit led
-- here.
CREATE FUNCTION tasker.task_snapshot_v1(p_task tasker.tasks, p_now timestamptz, p_limits jsonb) RETURNS jsonb
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

CREATE FUNCTION tasker.snapshot_steps_v1(p_task uuid) RETURNS jsonb
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
-- tasker.domain.progress has it).
CREATE FUNCTION tasker.execution_context_v1(p_task tasker.tasks, p_now timestamptz) RETURNS jsonb
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

-- investigate_tasks_v1: make an entry for each of some tasks whose rows the caller holds, except where one is pending.
-- Entries record; they move and retry nothing. p_metadata tells how it came to them; how long the task has been in its
-- state, and how long it may be, is added. p_limits as above, null where no limit led here. Returns the new entries.
CREATE FUNCTION tasker.investigate_tasks_v1(p_tasks uuid[], p_reason text, p_metadata jsonb, p_limits jsonb)
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

-- record_blocked_v1: put tasks that failures have just blocked before a person, in the transaction that blocked them.
-- Does nothing in sessions that have set tasker.dlq_max_retries_exceeded to off.
CREATE FUNCTION tasker.record_blocked_v1(p_tasks uuid[]) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_entries uuid[];
BEGIN
    IF current_setting('tasker.dlq_max_retries_exceeded', true) = 'off' THEN
        RETURN false;
    END IF;
    v_entries := tasker.investigate_tasks_v1(
        p_tasks, 'max_retries_exceeded', '{"detection_method": "blocked_by_failures"}', NULL);
    RETURN cardinality(v_entries) > 0;
END;
$$;

-- investigate_by_hand_v1: make an entry because an operator wants one. Returns whether there is such a task, its
-- pending entry, and whether that was made now.
CREATE FUNCTION tasker.investigate_by_hand_v1(
    p_task uuid, p_metadata jsonb, OUT task_found boolean, OUT dlq_entry_uuid uuid, OUT created boolean)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_entries uuid[];
BEGIN
    PERFORM FROM tasker.tasks t WHERE t.task_uuid = p_task FOR NO KEY UPDATE;
    task_found := FOUND;
    v_entries := tasker.investigate_tasks_v1(
        ARRAY[p_task], 'manual_dlq', '{"detection_method": "manual"}' || p_metadata, NULL);
    created := cardinality(v_entries) > 0;
    SELECT e.dlq_entry_uuid INTO investigate_by_hand_v1.dlq_entry_uuid FROM tasker.tasks_dlq e
    WHERE e.task_uuid = p_task AND e.resolution_status = 'pending';
END;
$$;

-- update_investigation_v1: record what an investigation found. Null keeps what is there; metadata is replaced as a
-- whole; an entry that leaves `pending` gets its time. An entry that has left it, or that changed after p_expected
-- (null: any time), stays as it is. Returns its status before, null when there is none, and whether it was changed.
CREATE FUNCTION tasker.update_investigation_v1(
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

-- fail_tasks_v1: move held, open tasks to `error`, their steps untouched. p_metadata goes to the transitions, with the
-- names of the task and the instant. Results of handlers that still run come too late.
CREATE FUNCTION tasker.fail_tasks_v1(p_tasks uuid[], p_metadata jsonb) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_now  timestamptz := tasker.now();
    v_rows tid[];
    v_from text[];
BEGIN
    SELECT array_agg(t.ctid), array_agg(t.state::text) INTO v_rows, v_from
    FROM unnest(p_tasks) AS w(task_uuid)
    CROSS JOIN LATERAL (
        SELECT t.ctid, t.state FROM tasker.tasks t WHERE t.task_uuid = w.task_uuid FOR NO KEY UPDATE
    ) t;
    WITH moved AS (
        UPDATE tasker.tasks t
        SET state = 'error', sort_key = t.sort_key + 1, terminal_at = v_now, wake_at = NULL, updated_at = v_now
        FROM unnest(v_rows, v_from) AS w(ctid, from_state)
        WHERE t.ctid = w.ctid
        RETURNING t.task_uuid, t.sort_key, t.named_task_uuid, w.from_state
    )
    INSERT INTO tasker.task_transitions (task_uuid, sort_key, from_state, to_state, metadata, created_at)
    SELECT m.task_uuid, m.sort_key, m.from_state, 'error',
           p_metadata || jsonb_build_object('namespace', n.namespace, 'task_name', n.name, 'detected_at', v_now), v_now
    FROM moved m
    CROSS JOIN LATERAL tasker.task_name_v1(m.named_task_uuid) n;
    RETURN tasker.hint_watchers_v1(false);
END;
$$;

-- close_stale_task_v1: do with one stale task what its template and the settings say: p_investigate makes an entry,
-- p_fail moves it to `error`. A task that somebody holds is being looked after; one that has left p_state, is no longer
-- stale or has a pending entry by now is left alone too. Returns whether it was dealt with, and the entry if there is
-- a new one.
CREATE FUNCTION tasker.close_stale_task_v1(
    p_task uuid, p_state text, p_limits jsonb, p_investigate boolean, p_fail boolean,
    OUT closed boolean, OUT dlq_entry_uuid uuid)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_now     timestamptz;
    v_entries uuid[];
    v_done    boolean;
BEGIN
    closed := false;
    PERFORM FROM tasker.tasks t WHERE t.task_uuid = p_task AND t.state = p_state FOR NO KEY UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN;
    END IF;

    v_now := tasker.now();
    PERFORM FROM tasker.tasks t
    CROSS JOIN LATERAL tasker.task_staleness_v1(t, v_now, p_limits) s
    WHERE t.task_uuid = p_task AND s.health = 'stale'
      AND NOT EXISTS (SELECT FROM tasker.tasks_dlq e
                      WHERE e.task_uuid = t.task_uuid AND e.resolution_status = 'pending');
    IF NOT FOUND THEN
        RETURN;
    END IF;

    closed := true;
    IF p_investigate THEN
        v_entries := tasker.investigate_tasks_v1(
            ARRAY[p_task], 'staleness_timeout', '{"detection_method": "automatic_staleness"}', p_limits);
        dlq_entry_uuid := v_entries[1];
    END IF;
    IF p_fail THEN
        v_done := tasker.fail_tasks_v1(ARRAY[p_task], '{"reason": "staleness_timeout"}');
    END IF;
END;
$$;

-- give_up_tasks_v1: move up to p_limit tasks to `error` that failures block and to which nothing has happened for
-- p_age: what an operator does to one of their steps starts the time anew. Their entries stay. Returns the tasks.
CREATE FUNCTION tasker.give_up_tasks_v1(p_age interval, p_limit integer) RETURNS uuid[]
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_before timestamptz := tasker.now() - p_age;
    v_tasks  uuid[];
    v_done   boolean;
BEGIN
    SELECT array_agg(t.task_uuid) INTO v_tasks
    FROM (
        SELECT t.task_uuid FROM tasker.tasks t
        WHERE t.terminal_at IS NULL AND t.state = 'blocked_by_failures' AND t.updated_at <= v_before
        LIMIT p_limit
        FOR NO KEY UPDATE SKIP LOCKED
    ) t;
    IF v_tasks IS NULL THEN
        RETURN '{}';
    END IF;
    v_done := tasker.fail_tasks_v1(v_tasks, '{"event": "give_up", "reason": "blocked_for_too_long"}');
    RETURN v_tasks;
END;
$$;

-- investigate_unserved_v1: make entries for up to p_limit tasks of which a step has been queued for p_grace in a
-- namespace that no live worker serves. Returns the namespaces and how many tasks of each.
CREATE FUNCTION tasker.investigate_unserved_v1(p_grace interval, p_limit integer)
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
        WHERE w.stopped_at IS NULL AND w.heartbeat_at > v_now - interval '90 seconds' AND ns.name = ANY (w.namespaces));

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
    v_entries := tasker.investigate_tasks_v1(
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
