-- cancel_task_v1: cancel_open_tasks_v1 for one task, as services of the release before call it.
CREATE OR REPLACE FUNCTION tasker.cancel_task_v1(
    p_task uuid, p_metadata jsonb, OUT from_state text, OUT cancelled boolean)
LANGUAGE sql VOLATILE AS $$
    SELECT min(c.from_state), coalesce(bool_or(c.cancelled), false)
    FROM tasker.cancel_open_tasks_v1(ARRAY[p_task], p_metadata, false) c
$$;

-- cancel_open_tasks_v1: cancel those of some tasks that are open, all at once. Returns the state in which each task was
-- and whether it was cancelled now, and no row for what does not exist. With p_all_or_nothing none is cancelled if one
-- of them does not exist.
CREATE OR REPLACE FUNCTION tasker.cancel_open_tasks_v1(p_tasks uuid[], p_metadata jsonb, p_all_or_nothing boolean)
RETURNS TABLE (task_uuid uuid, from_state text, cancelled boolean)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    v_found  uuid[];
    v_states text[];
    v_open   boolean[];
    v_hinted boolean;
BEGIN
    SELECT array_agg(t.task_uuid), array_agg(t.state::text), array_agg(t.open) INTO v_found, v_states, v_open
    FROM (SELECT DISTINCT w.task_uuid FROM unnest(p_tasks) AS w(task_uuid) ORDER BY w.task_uuid) w
    CROSS JOIN LATERAL (
        SELECT t.task_uuid, t.state, t.terminal_at IS NULL AS open FROM tasker.tasks t
        WHERE t.task_uuid = w.task_uuid
        FOR NO KEY UPDATE
    ) t;
    IF p_all_or_nothing AND EXISTS (SELECT FROM unnest(p_tasks) AS w(task_uuid) WHERE w.task_uuid <> ALL (v_found)) THEN
        v_open := array_fill(false, ARRAY[cardinality(v_found)]);
    END IF;
    IF true = ANY (v_open) THEN
        v_hinted := tasker.cancel_tasks_v1(
            ARRAY(SELECT t.task_uuid FROM unnest(v_found, v_open) AS t(task_uuid, open) WHERE t.open), p_metadata);
    END IF;
    RETURN QUERY SELECT * FROM unnest(v_found, v_states, v_open);
END;
$$;

-- cancel_tasks_v1: cancel open tasks that the caller has locked, and every step of them that is not over.
-- Handlers that run are not waited for: their leases end, and their results come too late.
CREATE OR REPLACE FUNCTION tasker.cancel_tasks_v1(p_tasks uuid[], p_metadata jsonb) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    v_now    timestamptz;
    v_rows   tid[];
    v_states text[];
BEGIN
    SELECT array_agg(s.ctid), array_agg(s.state::text) INTO v_rows, v_states
    FROM (
        SELECT s.task_uuid, s.step_uuid FROM unnest(p_tasks) AS w(task_uuid)
        CROSS JOIN LATERAL (
            -- Ordered, so that the planner takes the primary key and no index that has the task second.
            SELECT s.task_uuid, s.step_uuid FROM tasker.workflow_steps s
            WHERE s.task_uuid = w.task_uuid AND s.state NOT IN ('complete', 'cancelled', 'resolved_manually')
            ORDER BY s.step_uuid OFFSET 0
        ) s
        ORDER BY s.step_uuid
    ) unfinished
    CROSS JOIN LATERAL (
        SELECT s.ctid, s.state FROM tasker.workflow_steps s
        WHERE s.task_uuid = unfinished.task_uuid AND s.step_uuid = unfinished.step_uuid
        FOR NO KEY UPDATE
    ) s;
    DELETE FROM tasker.step_leases l WHERE l.task_uuid = ANY (p_tasks);

    v_now := tasker.now();
    WITH cancelled AS (
        UPDATE tasker.workflow_steps s
        SET state = 'cancelled', sort_key = s.sort_key + 1, next_retry_at = NULL, updated_at = v_now,
            completed_at = v_now
        FROM unnest(v_rows, v_states) AS w(ctid, from_state)
        WHERE s.ctid = w.ctid
        RETURNING s.task_uuid, s.step_uuid, s.sort_key, s.attempts, w.from_state
    )
    INSERT INTO tasker.workflow_step_transitions
           (task_uuid, step_uuid, sort_key, from_state, to_state, attempt, metadata, created_at)
    SELECT c.task_uuid, c.step_uuid, c.sort_key, c.from_state, 'cancelled', c.attempts, p_metadata, v_now
    FROM cancelled c;

    WITH cancelled AS (
        UPDATE tasker.tasks t
        SET state = 'cancelled', sort_key = t.sort_key + 1, terminal_at = v_now, wake_at = NULL, updated_at = v_now,
            failed_steps = 0, in_flight_steps = 0, backoff_steps = 0
        FROM (
            SELECT t.ctid, t.state FROM unnest(p_tasks) AS w(task_uuid)
            CROSS JOIN LATERAL (
                SELECT t.ctid, t.state FROM tasker.tasks t WHERE t.task_uuid = w.task_uuid LIMIT 1
            ) t
        ) w
        WHERE t.ctid = w.ctid
        RETURNING t.task_uuid, t.sort_key, w.state AS from_state
    )
    INSERT INTO tasker.task_transitions (task_uuid, sort_key, from_state, to_state, metadata, created_at)
    SELECT c.task_uuid, c.sort_key, c.from_state, 'cancelled', p_metadata, v_now
    FROM cancelled c;
    RETURN tasker.hint_watchers_v1(false);
END;
$$;
