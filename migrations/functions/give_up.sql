-- close_stale_task_v1: do with one stale task what its template and the settings say: p_add_entry makes a DLQ entry,
-- p_fail moves it to `error`. A task that somebody has locked is being looked after; one that has left p_state, is no
-- longer stale or has a pending entry by now is left alone too. Returns whether it was dealt with, and the entry if
-- there is a new one.
CREATE OR REPLACE FUNCTION tasker.close_stale_task_v1(
    p_task uuid, p_state text, p_limits jsonb, p_add_entry boolean, p_fail boolean,
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
    IF p_add_entry THEN
        v_entries := tasker.add_dlq_entries_v1(
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
CREATE OR REPLACE FUNCTION tasker.give_up_tasks_v1(p_age interval, p_limit integer) RETURNS uuid[]
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

-- fail_tasks_v1: move locked, open tasks to `error`, their steps untouched. p_metadata goes to the transitions, with
-- the names of the task and the instant. Results of handlers that still run come too late.
CREATE OR REPLACE FUNCTION tasker.fail_tasks_v1(p_tasks uuid[], p_metadata jsonb) RETURNS boolean
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
