-- process_results_v1: take up to p_limit result messages and process_by_ids_v1 their steps, in one transaction.
-- Returns how many messages it handled and delayed, and the highest msg_id for the caller's low-water mark.
CREATE OR REPLACE FUNCTION tasker.process_results_v1(
    p_limit integer, p_low_water bigint, p_only bigint,
    OUT handled integer, OUT delayed integer, OUT top_msg_id bigint)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_locked record;
    v_sent   boolean;
BEGIN
    v_locked := tasker.lock_tasks_v1('orchestration_step_results', p_limit, p_low_water, p_only);
    delayed := v_locked.busy;
    top_msg_id := v_locked.top_msg_id;
    handled := coalesce(cardinality(v_locked.steps), 0);
    IF handled > 0 THEN
        v_sent := tasker.send_steps_v1(tasker.process_by_ids_v1(v_locked.tasks, v_locked.steps));
    END IF;
END;
$$;

-- process_by_ids_v1: complete steps whose plain success was submitted, and advance their tasks.
-- The caller has locked the tasks. Steps past their notification state are skipped, their task is
-- evaluated all the same, so a message delivered twice is harmless. Returns what to send.
CREATE OR REPLACE FUNCTION tasker.process_by_ids_v1(p_tasks uuid[], p_steps uuid[]) RETURNS tasker.outbox
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    v_now     timestamptz;
    v_rows    tid[];
    v_tasks   uuid[];
    v_steps   uuid[];
    v_changes tasker.task_change[];
    v_batched boolean;
    v_warned  boolean;
BEGIN
    SELECT array_agg(s.ctid), array_agg(m.task_uuid), array_agg(m.step_uuid),
           coalesce(bool_or(s.batch_step_uuid IS NOT NULL), false)
    INTO v_rows, v_tasks, v_steps, v_batched
    FROM (
        SELECT DISTINCT m.step_uuid, m.task_uuid FROM unnest(p_tasks, p_steps) AS m(task_uuid, step_uuid)
        ORDER BY m.step_uuid
    ) m
    CROSS JOIN LATERAL (
        SELECT s.ctid, s.batch_step_uuid FROM tasker.workflow_steps s
        WHERE s.task_uuid = m.task_uuid AND s.step_uuid = m.step_uuid AND s.state = 'enqueued_for_orchestration'
        FOR NO KEY UPDATE
    ) s;

    IF coalesce(cardinality(v_rows), 0) < cardinality(p_steps) THEN
        v_warned := tasker.warn_of_unknown_v1('orchestration_step_results', p_tasks, p_steps);
    END IF;

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
    SELECT array_agg(ROW (e.task_uuid, 0, e.completed, 0, -e.completed, 0)::tasker.task_change) INTO v_changes
    FROM (SELECT c.task_uuid, 1 AS completed FROM completed c
          UNION ALL SELECT DISTINCT p.task_uuid, 0 FROM unnest(p_tasks) AS p(task_uuid)) e;

    -- An instance of a batch makes room for others.
    RETURN tasker.advance_tasks_v1(v_changes, v_tasks, v_steps, v_batched);
END;
$$;
