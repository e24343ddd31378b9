-- phase: pre
-- process_by_ids_v1: complete steps whose plain success was submitted, and advance their tasks.
-- The caller holds the tasks' locks. Steps past their notification state are skipped, their task is
-- evaluated all the same, so a message delivered twice is harmless. Returns what to send.
CREATE FUNCTION tasker.process_by_ids_v1(p_tasks uuid[], p_steps uuid[]) RETURNS tasker.outbox
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    v_now     timestamptz;
    v_rows    tid[];
    v_tasks   uuid[];
    v_steps   uuid[];
    v_changes tasker.task_change[];
BEGIN
    SELECT array_agg(s.ctid), array_agg(m.task_uuid), array_agg(m.step_uuid) INTO v_rows, v_tasks, v_steps
    FROM (
        SELECT DISTINCT m.step_uuid, m.task_uuid FROM unnest(p_tasks, p_steps) AS m(task_uuid, step_uuid)
        ORDER BY m.step_uuid
    ) m
    CROSS JOIN LATERAL (
        SELECT s.ctid FROM tasker.workflow_steps s
        WHERE s.task_uuid = m.task_uuid AND s.step_uuid = m.step_uuid AND s.state = 'enqueued_for_orchestration'
        FOR NO KEY UPDATE
    ) s;

    v_now := tasker.now();
    WITH completed AS (
        UPDATE tasker.workflow_steps s
        SET state = 'complete', sort_key = s.sort_key + 1, completed_at = v_now, updated_at = v_now
        WHERE s.ctid = ANY (v_rows)
        RETURNING s.task_uuid, s.step_uuid, s.sort_key, s.attempts
    ), recorded AS (
        INSERT INTO tasker.workflow_step_transitions
               (task_uuid, step_uuid, sort_key, from_state, to_state, attempt, created_at)
        SELECT c.task_uuid, c.step_uuid, c.sort_key, 'enqueued_for_orchestration', 'complete', c.attempts, v_now
        FROM completed c
    )
    SELECT array_agg(ROW (c.task_uuid, 0, c.completed, 0, -c.completed, 0)::tasker.task_change) INTO v_changes
    FROM (
        SELECT e.task_uuid, sum(e.completed) AS completed
        FROM (SELECT c.task_uuid, 1 AS completed FROM completed c
              UNION ALL SELECT DISTINCT p.task_uuid, 0 FROM unnest(p_tasks) AS p(task_uuid)) e
        GROUP BY e.task_uuid
    ) c;

    RETURN tasker.advance_tasks_v1(v_changes, v_tasks, v_steps, false);
END;
$$;

-- hold_tasks_v1: lock the tasks of held messages that nobody else is evaluating.
-- One busy task never stalls a batch: its messages come back 50 ms later. Messages of unknown tasks are
-- dropped. Returns the tasks and steps of the other messages, whose tasks are now held and which are deleted with
-- this transaction; how many came back as busy; and the highest msg_id, for the caller's low-water mark.
CREATE FUNCTION tasker.hold_tasks_v1(
    p_queue text, p_limit integer, p_low_water bigint, p_only bigint,
    OUT tasks uuid[], OUT steps uuid[], OUT busy integer, OUT top_msg_id bigint)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    v_messages record;
    v_msg_ids  bigint[];
    v_held     uuid[];
    v_distinct integer;
    v_busy     bigint[];
    v_dropped  boolean;
BEGIN
    busy := 0;
    v_messages := tasker.hold_messages_v1(p_queue, p_limit, p_low_water, p_only);
    v_msg_ids := v_messages.msg_ids;
    IF v_msg_ids IS NULL THEN
        RETURN;
    END IF;
    tasks := v_messages.tasks;
    steps := v_messages.steps;
    top_msg_id := v_msg_ids[cardinality(v_msg_ids)];  -- they come in order

    SELECT array_agg(t.task_uuid), count(*) INTO v_held, v_distinct
    FROM (SELECT DISTINCT m.task_uuid FROM unnest(tasks) AS m(task_uuid) ORDER BY m.task_uuid) m
    LEFT JOIN LATERAL (
        SELECT t.task_uuid FROM tasker.tasks t WHERE t.task_uuid = m.task_uuid
        FOR NO KEY UPDATE SKIP LOCKED
    ) t ON true;
    v_held := array_remove(v_held, NULL);

    -- Seldom: some task is busy, or gone.
    IF cardinality(v_held) < v_distinct THEN
        SELECT array_agg(m.msg_id) INTO v_busy
        FROM unnest(v_msg_ids, tasks) AS m(msg_id, task_uuid)
        WHERE m.task_uuid <> ALL (v_held)
          AND EXISTS (SELECT FROM tasker.tasks t WHERE t.task_uuid = m.task_uuid);
        busy := coalesce(cardinality(v_busy), 0);
        IF busy > 0 THEN
            PERFORM tasker.delay_messages_v1(p_queue, v_busy, interval '50 milliseconds');
        END IF;
        SELECT array_agg(m.task_uuid) FILTER (WHERE m.task_uuid = ANY (v_held)),
               array_agg(m.step_uuid) FILTER (WHERE m.task_uuid = ANY (v_held)),
               array_agg(m.msg_id) FILTER (WHERE v_busy IS NULL OR m.msg_id <> ALL (v_busy))
        INTO tasks, steps, v_msg_ids
        FROM unnest(v_msg_ids, tasks, steps) AS m(msg_id, task_uuid, step_uuid);
    END IF;
    v_dropped := tasker.drop_messages_v1(p_queue, v_msg_ids);
END;
$$;

-- process_results_v1: take up to p_limit result messages and process_by_ids_v1 their steps, in one transaction.
-- Returns how many messages it handled and delayed, and the highest msg_id for the caller's low-water mark.
CREATE FUNCTION tasker.process_results_v1(
    p_limit integer, p_low_water bigint, p_only bigint,
    OUT handled integer, OUT delayed integer, OUT top_msg_id bigint)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_held record;
    v_sent boolean;
BEGIN
    v_held := tasker.hold_tasks_v1('orchestration_step_results', p_limit, p_low_water, p_only);
    delayed := v_held.busy;
    top_msg_id := v_held.top_msg_id;
    handled := coalesce(cardinality(v_held.steps), 0);
    IF handled > 0 THEN
        v_sent := tasker.send_steps_v1(tasker.process_by_ids_v1(v_held.tasks, v_held.steps));
    END IF;
END;
$$;
