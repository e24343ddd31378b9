-- lock_tasks_v1: lock the tasks of messages that nobody else is evaluating.
-- One busy task never stalls a group: its messages come back 50 ms later. Messages of unknown tasks are dropped with a
-- warning. Returns the tasks and steps of the other messages, whose tasks are now locked and which are deleted with
-- this transaction; how many came back as busy; and the highest msg_id, for the caller's low-water mark.
CREATE OR REPLACE FUNCTION tasker.lock_tasks_v1(
    p_queue text, p_limit integer, p_low_water bigint, p_only bigint,
    OUT tasks uuid[], OUT steps uuid[], OUT busy integer, OUT top_msg_id bigint)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    v_messages record;
    v_msg_ids  bigint[];
    v_locked   uuid[];
    v_distinct integer;
    v_busy     bigint[];
    v_done     boolean;
BEGIN
    busy := 0;
    v_messages := tasker.lock_messages_v1(p_queue, p_limit, p_low_water, p_only);
    v_msg_ids := v_messages.msg_ids;
    IF v_msg_ids IS NULL THEN
        RETURN;
    END IF;
    v_done := tasker.refuse_nameless_v1(v_messages.tasks, v_messages.steps);
    tasks := v_messages.tasks;
    steps := v_messages.steps;
    top_msg_id := v_msg_ids[cardinality(v_msg_ids)];  -- they come in order

    SELECT array_agg(t.task_uuid), count(*) INTO v_locked, v_distinct
    FROM (SELECT DISTINCT m.task_uuid FROM unnest(tasks) AS m(task_uuid) ORDER BY m.task_uuid) m
    LEFT JOIN LATERAL (
        SELECT t.task_uuid FROM tasker.tasks t WHERE t.task_uuid = m.task_uuid
        FOR NO KEY UPDATE SKIP LOCKED
    ) t ON true;
    v_locked := array_remove(v_locked, NULL);

    -- Of plain successes, which are many, only an unknown task is noticed; an unknown step takes a look at each.
    IF cardinality(v_locked) < v_distinct OR p_queue <> 'orchestration_step_results' THEN
        v_done := tasker.warn_of_unknown_v1(p_queue, tasks, steps);
    END IF;
    -- Seldom: some task is busy, or gone.
    IF cardinality(v_locked) < v_distinct THEN
        SELECT array_agg(m.msg_id) INTO v_busy
        FROM unnest(v_msg_ids, tasks) AS m(msg_id, task_uuid)
        WHERE m.task_uuid <> ALL (v_locked)
          AND EXISTS (SELECT FROM tasker.tasks t WHERE t.task_uuid = m.task_uuid);
        busy := coalesce(cardinality(v_busy), 0);
        IF busy > 0 THEN
            PERFORM tasker.delay_messages_v1(p_queue, v_busy, interval '50 milliseconds');
        END IF;
        SELECT array_agg(m.task_uuid) FILTER (WHERE m.task_uuid = ANY (v_locked)),
               array_agg(m.step_uuid) FILTER (WHERE m.task_uuid = ANY (v_locked)),
               array_agg(m.msg_id) FILTER (WHERE v_busy IS NULL OR m.msg_id <> ALL (v_busy))
        INTO tasks, steps, v_msg_ids
        FROM unnest(v_msg_ids, tasks, steps) AS m(msg_id, task_uuid, step_uuid);
    END IF;
    v_done := tasker.drop_messages_v1(p_queue, v_msg_ids);
END;
$$;

-- lock_messages_v1: lock up to p_limit visible messages, oldest first, without deleting them; the caller decides
-- which to drop_messages and which to delay_messages. It starts above p_low_water; callers give 0 every second and
-- after errors, since ids commit out of order. p_only limits it to one message.
CREATE OR REPLACE FUNCTION tasker.lock_messages_v1(
    p_queue text, p_limit integer, p_low_water bigint, p_only bigint,
    OUT msg_ids bigint[], OUT tasks uuid[], OUT steps uuid[])
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_now   timestamptz := tasker.now();
    v_after bigint := coalesce(p_only - 1, p_low_water);
    v_until bigint := coalesce(p_only, 9223372036854775807);
BEGIN
    IF p_queue = 'orchestration_step_results' THEN
        SELECT array_agg(m.msg_id), array_agg((m.message ->> 'task_uuid')::uuid),
               array_agg((m.message ->> 'step_uuid')::uuid)
        INTO msg_ids, tasks, steps
        FROM (
            SELECT m.msg_id, m.message FROM pgmq.q_orchestration_step_results m
            WHERE m.msg_id > v_after AND m.msg_id <= v_until AND m.vt <= v_now
            ORDER BY m.msg_id LIMIT p_limit
            FOR UPDATE SKIP LOCKED
        ) m;
        RETURN;
    END IF;
    EXECUTE format($sql$
        SELECT array_agg(m.msg_id), array_agg((m.message ->> 'task_uuid')::uuid),
               array_agg((m.message ->> 'step_uuid')::uuid)
        FROM (
            SELECT m.msg_id, m.message FROM pgmq.%1$I m
            WHERE m.msg_id > $1 AND m.msg_id <= $4 AND m.vt <= $2
            ORDER BY m.msg_id LIMIT $3
            FOR UPDATE SKIP LOCKED
        ) m
    $sql$, 'q_' || p_queue) INTO msg_ids, tasks, steps USING v_after, v_now, p_limit, v_until;
END;
$$;

-- drop_messages_v1: delete messages.
CREATE OR REPLACE FUNCTION tasker.drop_messages_v1(p_queue text, p_msg_ids bigint[]) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF p_queue = 'orchestration_step_results' THEN
        DELETE FROM pgmq.q_orchestration_step_results q WHERE q.msg_id = ANY (p_msg_ids);
    ELSE
        EXECUTE format('DELETE FROM pgmq.%I q WHERE q.msg_id = ANY ($1)', 'q_' || p_queue) USING p_msg_ids;
    END IF;
    RETURN true;
END;
$$;

-- delay_messages_v1: let messages come back later.
CREATE OR REPLACE FUNCTION tasker.delay_messages_v1(p_queue text, p_msg_ids bigint[], p_delay interval) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    EXECUTE format('UPDATE pgmq.%I q SET vt = $2 WHERE q.msg_id = ANY ($1)', 'q_' || p_queue)
    USING p_msg_ids, tasker.now() + p_delay;
END;
$$;
