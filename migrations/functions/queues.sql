-- The thin layer over PGMQ. Messages hold ids and a format version: {"v": 1, "task_uuid": …, "step_uuid": …}.
--
-- A function that has nothing to return says whether it did something: plpgsql evaluates `done := f()` as an
-- expression, where PERFORM f() starts a query of its own. A step passes through a dozen of these.

-- define_queue_v1: write the functions of one queue. A statement with the queue's name in it is planned at every
-- call unless it stands in a function of its own, and planning takes longer than popping a message.
--
-- pop_from_<queue>: delete up to p_limit visible messages, oldest first, and return them. Its own delete, not
-- pgmq.pop: that one visits every dead row below the first live message, while this starts above p_after.
-- push_to_<queue>: send a message for each step.
CREATE OR REPLACE FUNCTION tasker.define_queue_v1(p_queue text) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    EXECUTE format($sql$
        CREATE OR REPLACE FUNCTION tasker.%2$I(
            p_now timestamptz, p_limit integer, p_after bigint, p_until bigint,
            OUT messages jsonb[], OUT tasks uuid[], OUT steps uuid[], OUT top_msg_id bigint)
        LANGUAGE plpgsql VOLATILE AS $body$
        BEGIN
            WITH popped AS (
                DELETE FROM pgmq.%1$I q
                WHERE q.msg_id = ANY (ARRAY(
                    SELECT m.msg_id FROM pgmq.%1$I m
                    WHERE m.msg_id > p_after AND m.msg_id <= p_until AND m.vt <= p_now
                    ORDER BY m.msg_id LIMIT p_limit
                    FOR UPDATE SKIP LOCKED))
                RETURNING q.msg_id, q.message
            )
            SELECT array_agg(p.message), array_agg((p.message ->> 'task_uuid')::uuid),
                   array_agg((p.message ->> 'step_uuid')::uuid), max(p.msg_id)
            INTO messages, tasks, steps, top_msg_id
            FROM popped p;
        END;
        $body$
    $sql$, 'q_' || p_queue, 'pop_from_' || p_queue);
    EXECUTE format($sql$
        CREATE OR REPLACE FUNCTION tasker.%2$I(p_tasks uuid[], p_steps uuid[]) RETURNS boolean
        LANGUAGE plpgsql VOLATILE AS $body$
        BEGIN
            INSERT INTO pgmq.%1$I (vt, message)
            SELECT clock_timestamp(), jsonb_build_object('v', 1, 'task_uuid', m.task_uuid, 'step_uuid', m.step_uuid)
            FROM unnest(p_tasks, p_steps) AS m(task_uuid, step_uuid);
            RETURN true;
        END;
        $body$
    $sql$, 'q_' || p_queue, 'push_to_' || p_queue);
END;
$$;

-- ensure_queue_v1: create a queue and its functions when it is first used; true when that was now.
-- PGMQ takes an advisory lock for the transaction, so that of several callers one comes first.
CREATE OR REPLACE FUNCTION tasker.ensure_queue_v1(p_queue text) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_last_made CONSTANT text := format('tasker.%I', 'push_to_' || p_queue);
BEGIN
    IF to_regproc(v_last_made) IS NOT NULL THEN
        RETURN false;
    END IF;
    PERFORM pgmq.create(p_queue);
    IF to_regproc(v_last_made) IS NULL THEN
        -- Every message would pay for an index that nothing here reads: messages are read by id, from the low-water
        -- mark upwards.
        EXECUTE format('DROP INDEX IF EXISTS pgmq.%I', 'q_' || p_queue || '_vt_idx');
        PERFORM tasker.define_queue_v1(p_queue);
    END IF;
    RETURN true;
END;
$$;

-- worker_queue_v1: the queue of a namespace's steps: one for each of three bands of priority (above, at and below 0).
CREATE OR REPLACE FUNCTION tasker.worker_queue_v1(p_namespace text, p_priority smallint) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT 'worker_' || p_namespace
           || CASE WHEN p_priority > 0 THEN '_high' WHEN p_priority < 0 THEN '_low' ELSE '' END || '_queue'
$$;

-- worker_queues_v1: the queues of a namespace, the highest band first.
CREATE OR REPLACE FUNCTION tasker.worker_queues_v1(p_namespace text) RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT ARRAY[tasker.worker_queue_v1(p_namespace, 1::smallint), tasker.worker_queue_v1(p_namespace, 0::smallint),
                 tasker.worker_queue_v1(p_namespace, (-1)::smallint)]
$$;

-- push_steps_v1: send messages for steps to one queue and hint its readers once.
CREATE OR REPLACE FUNCTION tasker.push_steps_v1(p_queue text, p_tasks uuid[], p_steps uuid[]) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_done boolean;
BEGIN
    IF p_queue = 'orchestration_step_results' THEN
        v_done := tasker.push_to_orchestration_step_results(p_tasks, p_steps);
    ELSE
        v_done := tasker.ensure_queue_v1(p_queue);
        EXECUTE format('SELECT tasker.%I($1, $2)', 'push_to_' || p_queue) INTO v_done USING p_tasks, p_steps;
    END IF;
    RETURN tasker.hint_v1('tasker_' || p_queue);
END;
$$;

-- send_steps_v1: send what is in an outbox.
CREATE OR REPLACE FUNCTION tasker.send_steps_v1(p_outbox tasker.outbox) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_queue text := p_outbox.queues[1];
    v_tasks uuid[];
    v_steps uuid[];
    v_done  boolean;
BEGIN
    IF p_outbox.queues IS NULL THEN
        RETURN false;
    ELSIF v_queue = ALL (p_outbox.queues) THEN
        RETURN tasker.push_steps_v1(v_queue, p_outbox.tasks, p_outbox.steps);
    END IF;
    FOR v_queue, v_tasks, v_steps IN
        SELECT m.queue, array_agg(m.task_uuid), array_agg(m.step_uuid)
        FROM unnest(p_outbox.queues, p_outbox.tasks, p_outbox.steps) AS m(queue, task_uuid, step_uuid)
        GROUP BY m.queue
        ORDER BY m.queue
    LOOP
        v_done := tasker.push_steps_v1(v_queue, v_tasks, v_steps);
    END LOOP;
    RETURN true;
END;
$$;

-- visible_messages_v1: the ids of up to p_limit visible messages, oldest first, to be tried one by one. A queue that
-- nobody has used yet has none.
CREATE OR REPLACE FUNCTION tasker.visible_messages_v1(p_queue text, p_limit integer) RETURNS SETOF bigint
LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF to_regclass(format('pgmq.%I', 'q_' || p_queue)) IS NULL THEN
        RETURN;
    END IF;
    RETURN QUERY EXECUTE format(
        'SELECT m.msg_id FROM pgmq.%I m WHERE m.vt <= $1 ORDER BY m.msg_id LIMIT $2', 'q_' || p_queue)
    USING tasker.now(), p_limit;
END;
$$;

-- queue_status_v1: what is in a queue, of its oldest p_most messages: how many are visible, how many were put off, and
-- since when the oldest is there (null if none is). No row for a queue that nobody has used yet.
CREATE OR REPLACE FUNCTION tasker.queue_status_v1(p_queue text, p_most integer)
RETURNS TABLE (visible bigint, delayed bigint, oldest_at timestamptz)
LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF to_regclass(format('pgmq.%I', 'q_' || p_queue)) IS NULL THEN
        RETURN;
    END IF;
    RETURN QUERY EXECUTE format($sql$
        SELECT count(*) FILTER (WHERE m.vt <= $1), count(*) FILTER (WHERE m.vt > $1), min(m.enqueued_at)
        FROM (SELECT m.vt, m.enqueued_at FROM pgmq.%I m WHERE m.msg_id > 0 ORDER BY m.msg_id LIMIT $2) m
    $sql$, 'q_' || p_queue)
    USING tasker.now(), p_most;
END;
$$;

-- any_messages_v1: whether some queues hold a message, visible or put off. Queues that nobody has used yet hold none.
CREATE OR REPLACE FUNCTION tasker.any_messages_v1(p_queues text[]) RETURNS boolean
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_queue text;
    v_found boolean;
BEGIN
    FOREACH v_queue IN ARRAY p_queues LOOP
        CONTINUE WHEN to_regclass(format('pgmq.%I', 'q_' || v_queue)) IS NULL;
        EXECUTE format('SELECT EXISTS (SELECT FROM pgmq.%I m WHERE m.msg_id > 0)', 'q_' || v_queue) INTO v_found;
        IF v_found THEN
            RETURN true;
        END IF;
    END LOOP;
    RETURN false;
END;
$$;

-- refuse_nameless_v1: fail over a message that does not name a task and a step, as over one whose uuids are garbled:
-- the search for poison then finds it and records it, and the others go on.
CREATE OR REPLACE FUNCTION tasker.refuse_nameless_v1(p_tasks uuid[], p_steps uuid[]) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF array_position(p_tasks, NULL) IS NOT NULL OR array_position(p_steps, NULL) IS NOT NULL THEN
        RAISE EXCEPTION 'the message does not name a task and a step'
        USING ERRCODE = 'invalid_text_representation';
    END IF;
    RETURN true;
END;
$$;

-- warn_of_unknown_v1: warn the caller of messages that name a step nobody knows, such as one of a task that retention
-- has deleted. They are dropped: there is nothing that could hang because of them.
CREATE OR REPLACE FUNCTION tasker.warn_of_unknown_v1(p_queue text, p_tasks uuid[], p_steps uuid[]) RETURNS boolean
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_unknown text;
BEGIN
    SELECT string_agg(format('task %s step %s', m.task_uuid, m.step_uuid), ', ') INTO v_unknown
    FROM unnest(p_tasks, p_steps) AS m(task_uuid, step_uuid)
    LEFT JOIN LATERAL (
        SELECT true AS there FROM tasker.workflow_steps s
        WHERE s.task_uuid = m.task_uuid AND s.step_uuid = m.step_uuid LIMIT 1
    ) s ON true
    WHERE s.there IS NULL;
    IF v_unknown IS NOT NULL THEN
        RAISE WARNING 'messages of queue % name steps that do not exist; they are dropped', p_queue
        USING DETAIL = v_unknown;
    END IF;
    RETURN v_unknown IS NOT NULL;
END;
$$;

-- The queues of the services that decide, and the functions of all queues there are in the words of this file.
SELECT tasker.ensure_queue_v1(queue)
FROM unnest(ARRAY['orchestration_step_judgements', 'orchestration_step_results']) AS queue;
SELECT tasker.define_queue_v1(substring(p.proname FROM '^push_to_(.*)$'))
FROM pg_proc p WHERE p.pronamespace = 'tasker'::regnamespace AND p.proname LIKE 'push\_to\_%';
