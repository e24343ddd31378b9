-- delete_old_tasks_v1: look at up to p_limit tasks behind p_after and delete those that ended p_age ago or more, with
-- everything that hangs on them. A task with a pending DLQ entry stays, and one that somebody has locked is left for
-- the next walk.
-- Callers walk the tasks from the oldest on, which their uuids put in order of time: no index by the time of their end
-- is needed, which every task would pay for when it ends, and no walk reads a task younger than p_age. What is kept
-- of the old ones is read again in each walk.
-- Returns the last task looked at, null when none is left that may be old enough, and how many rows of each table went.
CREATE OR REPLACE FUNCTION tasker.delete_old_tasks_v1(
    p_limit integer, p_age interval, p_after uuid, OUT last_uuid uuid, OUT deleted jsonb)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    v_cutoff CONSTANT timestamptz := tasker.now() - p_age;
    -- What was made after the cutoff cannot have ended before it.
    v_below  CONSTANT uuid := tasker.least_uuid_v1(v_cutoff);
    v_seen   uuid[];
    v_tasks  uuid[];
    v_rows   tid[];
    v_table  text;
    v_count  bigint;
BEGIN
    deleted := '{}';
    SELECT array_agg(t.task_uuid), array_agg(t.task_uuid) FILTER (WHERE t.terminal_at <= v_cutoff)
    INTO v_seen, v_tasks
    FROM (
        SELECT t.task_uuid, t.terminal_at FROM tasker.tasks t
        WHERE t.task_uuid > p_after AND t.task_uuid < v_below
        ORDER BY t.task_uuid LIMIT p_limit
    ) t;
    IF cardinality(v_seen) = p_limit THEN
        last_uuid := v_seen[p_limit];
    END IF;

    v_tasks := tasker.without_pending_entry_v1(v_tasks);
    SELECT array_agg(t.task_uuid) INTO v_tasks
    FROM unnest(v_tasks) AS w(task_uuid)
    CROSS JOIN LATERAL (
        SELECT t.task_uuid FROM tasker.tasks t WHERE t.task_uuid = w.task_uuid AND t.terminal_at <= v_cutoff
        FOR UPDATE SKIP LOCKED
    ) t;
    -- Again, now that nobody can begin one.
    v_tasks := tasker.without_pending_entry_v1(v_tasks);
    IF v_tasks IS NULL THEN
        RETURN;
    END IF;

    -- A late message may still lead a worker to a step, but to none that is locked here.
    SELECT array_agg(s.ctid) INTO v_rows
    FROM (
        SELECT s.task_uuid, s.step_uuid FROM unnest(v_tasks) AS w(task_uuid)
        CROSS JOIN LATERAL (
            -- Ordered, so that the planner takes the primary key and no index that has the task second.
            SELECT s.task_uuid, s.step_uuid FROM tasker.workflow_steps s
            WHERE s.task_uuid = w.task_uuid
            ORDER BY s.step_uuid OFFSET 0
        ) s
        ORDER BY s.step_uuid
    ) gone
    CROSS JOIN LATERAL (
        SELECT s.ctid FROM tasker.workflow_steps s
        WHERE s.task_uuid = gone.task_uuid AND s.step_uuid = gone.step_uuid
        FOR UPDATE
    ) s;
    DELETE FROM tasker.workflow_steps s WHERE s.ctid = ANY (v_rows);
    GET DIAGNOSTICS v_count = ROW_COUNT;
    deleted := jsonb_build_object('workflow_steps', v_count);

    FOREACH v_table IN ARRAY ARRAY[
        'step_leases', 'step_results', 'workflow_step_transitions', 'workflow_step_edges', 'task_transitions',
        'task_identities', 'tasks_dlq', 'poison_messages', 'tasks']
    LOOP
        EXECUTE format('DELETE FROM tasker.%I d WHERE d.task_uuid = ANY ($1)', v_table) USING v_tasks;
        GET DIAGNOSTICS v_count = ROW_COUNT;
        deleted := deleted || jsonb_build_object(v_table, v_count);
    END LOOP;
END;
$$;

-- least_uuid_v1: what is made at an instant or later has a UUIDv7 that is not less.
CREATE OR REPLACE FUNCTION tasker.least_uuid_v1(p_at timestamptz) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT (lpad(to_hex(greatest(0, extract(epoch FROM p_at) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;

-- without_pending_entry_v1: those of the tasks that have no pending entry; null when none is left.
CREATE OR REPLACE FUNCTION tasker.without_pending_entry_v1(p_tasks uuid[]) RETURNS uuid[]
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN (
        SELECT array_agg(w.task_uuid) FROM unnest(p_tasks) AS w(task_uuid)
        LEFT JOIN LATERAL (
            SELECT true AS pending FROM tasker.tasks_dlq d
            WHERE d.task_uuid = w.task_uuid AND d.resolution_status = 'pending' LIMIT 1
        ) d ON true
        WHERE d.pending IS NULL);
END;
$$;

-- delete_old_poison_v1: delete up to p_limit poison records of p_age or more whose task is gone or unknown. The others
-- go with their task. Returns how many.
CREATE OR REPLACE FUNCTION tasker.delete_old_poison_v1(p_limit integer, p_age interval) RETURNS integer
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_cutoff CONSTANT timestamptz := tasker.now() - p_age;
    v_count  integer;
BEGIN
    DELETE FROM tasker.poison_messages p WHERE p.ctid = ANY (ARRAY(
        SELECT p.ctid FROM tasker.poison_messages p
        LEFT JOIN LATERAL (
            SELECT true AS there FROM tasker.tasks t WHERE t.task_uuid = p.task_uuid LIMIT 1
        ) t ON true
        WHERE p.recorded_at <= v_cutoff AND t.there IS NULL
        ORDER BY p.recorded_at LIMIT p_limit
        FOR UPDATE OF p SKIP LOCKED));
    GET DIAGNOSTICS v_count = ROW_COUNT;
    RETURN v_count;
END;
$$;
