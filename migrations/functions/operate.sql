-- What operators do to steps and tasks. Each action is one transaction: lock, decide in the caller with the state
-- machine, apply.

-- lock_listed_tasks_v1: lock tasks before several of their steps are acted on in one transaction. Returns how many exist.
CREATE OR REPLACE FUNCTION tasker.lock_listed_tasks_v1(p_tasks uuid[]) RETURNS bigint
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN (
        SELECT count(*)
        FROM (SELECT DISTINCT w.task_uuid FROM unnest(p_tasks) AS w(task_uuid) ORDER BY w.task_uuid) w
        CROSS JOIN LATERAL (
            SELECT t.task_uuid FROM tasker.tasks t WHERE t.task_uuid = w.task_uuid
            FOR NO KEY UPDATE
        ) t);
END;
$$;

-- lock_step_v1: lock a task, then one of its steps; return their states, and what the step is. Null for what does not
-- exist.
CREATE OR REPLACE FUNCTION tasker.lock_step_v1(
    p_task uuid, p_step uuid, OUT task_state text, OUT step_state text, OUT name text, OUT step_type text)
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    SELECT t.state INTO task_state FROM tasker.tasks t WHERE t.task_uuid = p_task FOR NO KEY UPDATE;
    SELECT s.state, s.name, s.step_type INTO step_state, name, step_type FROM tasker.workflow_steps s
    WHERE s.task_uuid = p_task AND s.step_uuid = p_step
    FOR NO KEY UPDATE;
END;
$$;

-- act_on_step_v1: move one locked step by hand, to `pending` by reset_steps_v1, else by move_step_by_hand_v1, and send
-- what that leads to.
CREATE OR REPLACE FUNCTION tasker.act_on_step_v1(
    p_task uuid, p_step uuid, p_to_state text, p_metadata jsonb, p_result jsonb, p_result_metadata jsonb
) RETURNS boolean
LANGUAGE sql VOLATILE AS $$
    SELECT tasker.send_steps_v1(
        CASE p_to_state
            WHEN 'pending' THEN tasker.reset_steps_v1(p_task, ARRAY[p_step], p_metadata)
            ELSE tasker.move_step_by_hand_v1(p_task, p_step, p_to_state, p_metadata, p_result, p_result_metadata)
        END)
$$;

-- move_step_by_hand_v1: move one locked step to `complete` or `resolved_manually` and advance its task.
-- p_metadata goes to the transition. To `complete` it gets p_result with p_result_metadata. A lease it may have ends:
-- whoever runs it comes too late. A task in `error` resumes once none of its steps is in `error`. Returns what to send.
CREATE OR REPLACE FUNCTION tasker.move_step_by_hand_v1(
    p_task uuid, p_step uuid, p_to_state text, p_metadata jsonb, p_result jsonb, p_result_metadata jsonb
) RETURNS tasker.outbox
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_now    timestamptz;
    v_from   text;
    v_moved  record;
    v_change tasker.task_change;
    v_outbox tasker.outbox;
BEGIN
    DELETE FROM tasker.step_leases l WHERE l.task_uuid = p_task AND l.step_uuid = p_step;
    SELECT s.state INTO v_from FROM tasker.workflow_steps s WHERE s.task_uuid = p_task AND s.step_uuid = p_step;

    v_now := tasker.now();
    UPDATE tasker.workflow_steps s
    SET state = p_to_state, sort_key = s.sort_key + 1, updated_at = v_now, next_retry_at = NULL, completed_at = v_now
    WHERE s.task_uuid = p_task AND s.step_uuid = p_step
    RETURNING s.sort_key, s.attempts, s.batch_step_uuid IS NOT NULL AS batched INTO v_moved;

    INSERT INTO tasker.workflow_step_transitions
           (task_uuid, step_uuid, sort_key, from_state, to_state, attempt, metadata, created_at)
    VALUES (p_task, p_step, v_moved.sort_key, v_from, p_to_state, v_moved.attempts, p_metadata, v_now);
    IF p_to_state = 'complete' THEN
        INSERT INTO tasker.step_results
               (task_uuid, step_uuid, sort_key, attempt, success, status, result, metadata, recorded_at)
        VALUES (p_task, p_step, v_moved.sort_key, v_moved.attempts, true, 'completed', p_result, p_result_metadata, v_now);
    END IF;

    v_change := ROW (
        p_task, 0, 1, -(v_from = 'error')::integer,
        -(v_from IN ('enqueued', 'in_progress', 'enqueued_for_orchestration',
                     'enqueued_as_error_for_orchestration'))::integer,
        -(v_from = 'waiting_for_retry')::integer)::tasker.task_change;
    -- An instance of a batch makes room for others.
    v_outbox := tasker.advance_tasks_v1(ARRAY[v_change], ARRAY[p_task], ARRAY[p_step], v_moved.batched);
    RETURN coalesce(tasker.resume_task_v1(p_task, p_metadata), v_outbox);
END;
$$;

-- reset_steps_v1: move those of some steps of a locked task that are in `error` to `pending`, and advance the task.
-- They start over: attempts, losses, backoff and results are cleared, the checkpoint stays. p_metadata goes to the transitions.
-- A task in `error` resumes once none of its steps is in `error`. Returns what to send.
CREATE OR REPLACE FUNCTION tasker.reset_steps_v1(p_task uuid, p_steps uuid[], p_metadata jsonb) RETURNS tasker.outbox
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_now    timestamptz;
    v_rows   tid[];
    v_outbox tasker.outbox;
BEGIN
    SELECT array_agg(s.ctid) INTO v_rows
    FROM (SELECT w.step_uuid FROM unnest(p_steps) AS w(step_uuid) ORDER BY w.step_uuid) w
    CROSS JOIN LATERAL (
        SELECT s.ctid FROM tasker.workflow_steps s
        WHERE s.task_uuid = p_task AND s.step_uuid = w.step_uuid AND s.state = 'error'
        FOR NO KEY UPDATE
    ) s;

    v_now := tasker.now();
    WITH reset AS (
        UPDATE tasker.workflow_steps s
        SET state = 'pending', sort_key = s.sort_key + 1, updated_at = v_now, next_retry_at = NULL, attempts = 0,
            losses = 0, max_attempts = s.max_attempts - s.forgiven_attempts, forgiven_attempts = 0,
            backoff_request_seconds = NULL, results_after = s.sort_key, completed_at = NULL
        WHERE s.ctid = ANY (v_rows)
        RETURNING s.task_uuid, s.step_uuid, s.sort_key
    )
    INSERT INTO tasker.workflow_step_transitions
           (task_uuid, step_uuid, sort_key, from_state, to_state, attempt, metadata, created_at)
    SELECT r.task_uuid, r.step_uuid, r.sort_key, 'error', 'pending', 0, p_metadata, v_now FROM reset r;

    v_outbox := tasker.advance_tasks_v1(
        ARRAY[ROW (p_task, 0, 0, -coalesce(cardinality(v_rows), 0), 0, 0)::tasker.task_change], NULL, NULL, true);
    RETURN coalesce(tasker.resume_task_v1(p_task, p_metadata), v_outbox);
END;
$$;

-- retry_task_v1: reset all steps of a task that are in `error`, unless it is over for good. Returns the state it was in
-- (null: there is no such task) and the names of those steps, null when there are none.
CREATE OR REPLACE FUNCTION tasker.retry_task_v1(
    p_task uuid, p_metadata jsonb, OUT from_state text, OUT reset_steps text[])
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_steps uuid[];
    v_sent  boolean;
BEGIN
    SELECT t.state INTO from_state FROM tasker.tasks t
    WHERE t.task_uuid = p_task
    FOR NO KEY UPDATE;
    IF from_state IN ('complete', 'cancelled', 'resolved_manually') THEN
        RETURN;
    END IF;
    SELECT array_agg(s.step_uuid), array_agg(s.name) INTO v_steps, reset_steps
    FROM (
        -- Ordered, so that the planner takes the primary key and no index that has the task second.
        SELECT s.step_uuid, s.name FROM tasker.workflow_steps s
        WHERE s.task_uuid = p_task AND s.state = 'error'
        ORDER BY s.step_uuid OFFSET 0
    ) s;
    IF v_steps IS NOT NULL THEN
        v_sent := tasker.send_steps_v1(tasker.reset_steps_v1(p_task, v_steps, p_metadata));
    END IF;
END;
$$;

-- resume_by_hand_v1: resume_task_v1 and its messages, for a task that ended in `error` although none of its steps did.
-- Returns its state and how many of its steps are in `error` (null: there is no such task), and whether it was resumed.
CREATE OR REPLACE FUNCTION tasker.resume_by_hand_v1(
    p_task uuid, p_metadata jsonb, OUT from_state text, OUT failed integer, OUT resumed boolean)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_outbox tasker.outbox;
    v_sent   boolean;
BEGIN
    SELECT t.state, t.failed_steps INTO from_state, failed FROM tasker.tasks t WHERE t.task_uuid = p_task
    FOR NO KEY UPDATE;
    resumed := coalesce(from_state = 'error' AND failed = 0, false);
    IF resumed THEN
        v_outbox := tasker.resume_task_v1(p_task, p_metadata);
        v_sent := tasker.send_steps_v1(v_outbox);
    END IF;
END;
$$;

-- resume_task_v1: reopen a locked task in `error` if no step of it is in `error` any more, and enqueue what is ready.
-- Its `enqueued` steps are sent again, since their messages may have been used up while it was over. Returns what to
-- send, null when the task stays as it is.
CREATE OR REPLACE FUNCTION tasker.resume_task_v1(p_task uuid, p_metadata jsonb) RETURNS tasker.outbox
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_now      timestamptz := tasker.now();
    v_sort_key integer;
    v_outbox   tasker.outbox;
    v_waiting  tasker.outbox;
BEGIN
    UPDATE tasker.tasks t
    SET state = 'pending', sort_key = t.sort_key + 1, terminal_at = NULL, completed_at = NULL, updated_at = v_now,
        expires_at = v_now + t.ttl  -- all of it again
    WHERE t.task_uuid = p_task AND t.state = 'error' AND t.failed_steps = 0
    RETURNING t.sort_key INTO v_sort_key;
    IF v_sort_key IS NULL THEN
        RETURN NULL;
    END IF;
    INSERT INTO tasker.task_transitions (task_uuid, sort_key, from_state, to_state, metadata, created_at)
    VALUES (p_task, v_sort_key, 'error', 'pending', p_metadata, v_now);

    SELECT array_agg(tasker.worker_queue_v1(ns.name, t.priority)), array_agg(s.task_uuid), array_agg(s.step_uuid)
    INTO v_waiting.queues, v_waiting.tasks, v_waiting.steps
    FROM tasker.workflow_steps s
    JOIN tasker.tasks t ON t.task_uuid = s.task_uuid
    JOIN tasker.task_namespaces ns ON ns.namespace_id = t.namespace_id
    WHERE s.task_uuid = p_task AND s.state = 'enqueued';

    v_outbox := tasker.advance_tasks_v1(ARRAY[ROW (p_task, 0, 0, 0, 0, 0)::tasker.task_change], NULL, NULL, true);
    RETURN ROW (v_outbox.queues || v_waiting.queues, v_outbox.tasks || v_waiting.tasks,
                v_outbox.steps || v_waiting.steps)::tasker.outbox;
END;
$$;
