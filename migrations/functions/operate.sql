-- What operators do to steps and tasks. Each action is one transaction: lock, decide in the caller with the state
-- machine, apply.

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

-- act_on_step_v1: move_step_by_hand_v1 and its messages.
CREATE OR REPLACE FUNCTION tasker.act_on_step_v1(
    p_task uuid, p_step uuid, p_to_state text, p_metadata jsonb, p_result jsonb, p_result_metadata jsonb
) RETURNS boolean
LANGUAGE sql VOLATILE AS $$
    SELECT tasker.send_steps_v1(
        tasker.move_step_by_hand_v1(p_task, p_step, p_to_state, p_metadata, p_result, p_result_metadata))
$$;

-- move_step_by_hand_v1: move one locked step to `pending`, `complete` or `resolved_manually` and advance its task.
-- p_metadata goes to the transition. To `pending` the step starts over: attempts, losses, backoff and results are cleared, the
-- checkpoint stays. To `complete` it gets p_result with p_result_metadata. A lease it may have ends: whoever runs it
-- comes too late. A task in `error` resumes once none of its steps is in `error`. Returns what to send.
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
    SET state = p_to_state, sort_key = s.sort_key + 1, updated_at = v_now, next_retry_at = NULL,
        attempts = CASE WHEN p_to_state = 'pending' THEN 0 ELSE s.attempts END,
        losses = CASE WHEN p_to_state = 'pending' THEN 0 ELSE s.losses END,
        max_attempts = CASE WHEN p_to_state = 'pending' THEN s.max_attempts - s.forgiven_attempts
                            ELSE s.max_attempts END,
        forgiven_attempts = CASE WHEN p_to_state = 'pending' THEN 0 ELSE s.forgiven_attempts END,
        backoff_request_seconds = CASE WHEN p_to_state <> 'pending' THEN s.backoff_request_seconds END,
        results_after = CASE WHEN p_to_state = 'pending' THEN s.sort_key ELSE s.results_after END,
        completed_at = CASE WHEN p_to_state <> 'pending' THEN v_now END
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
        p_task, 0, (p_to_state <> 'pending')::integer, -(v_from = 'error')::integer,
        -(v_from IN ('enqueued', 'in_progress', 'enqueued_for_orchestration',
                     'enqueued_as_error_for_orchestration'))::integer,
        -(v_from = 'waiting_for_retry')::integer)::tasker.task_change;
    IF p_to_state = 'pending' THEN
        v_outbox := tasker.advance_tasks_v1(ARRAY[v_change], NULL, NULL, true);
    ELSE
        -- An instance of a batch makes room for others.
        v_outbox := tasker.advance_tasks_v1(ARRAY[v_change], ARRAY[p_task], ARRAY[p_step], v_moved.batched);
    END IF;
    RETURN coalesce(tasker.resume_task_v1(p_task, p_metadata), v_outbox);
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
