-- phase: pre
-- The thin layer over PGMQ. Messages hold ids and a format version: {"v": 1, "task_uuid": …, "step_uuid": …}.

-- A function that has nothing to return says whether it did something: plpgsql evaluates `done := f()` as an
-- expression, where PERFORM f() starts a query of its own. A step passes through a dozen of these.

-- Whether hints may be sent: a notification queue that fills up would make every commit fail.
CREATE FUNCTION tasker.hint_v1(p_channel text) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF pg_notification_queue_usage() < 0.5 THEN
        PERFORM pg_notify(p_channel, '');
        RETURN true;
    END IF;
    RETURN false;
END;
$$;

-- hint_watchers_v1: tell open streams that this transaction moves something they may show.
CREATE FUNCTION tasker.hint_watchers_v1(p_steps_only boolean) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF EXISTS (SELECT FROM tasker.watchers w
               WHERE w.expires_at > clock_timestamp() AND (w.steps OR NOT p_steps_only)) THEN
        RETURN tasker.hint_v1('tasker_transitions');
    END IF;
    RETURN false;
END;
$$;

-- define_queue_v1: write the functions of one queue. A statement with the queue's name in it is planned at every
-- call unless it stands in a function of its own, and planning takes longer than popping a message.
--
-- pop_from_<queue>: delete up to p_limit visible messages, oldest first, and return them. Its own delete, not
-- pgmq.pop: that one visits every dead row below the first live message, while this starts above p_after.
-- push_to_<queue>: send a message for each step.
CREATE FUNCTION tasker.define_queue_v1(p_queue text) RETURNS void
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
CREATE FUNCTION tasker.ensure_queue_v1(p_queue text) RETURNS boolean
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

-- The results queue is the busiest and its name is fixed: its statements are written out below.

-- hold_messages_v1: lock up to p_limit visible messages, oldest first, without deleting them; the caller decides
-- which to drop_messages and which to delay_messages. It starts above p_low_water; callers give 0 every second and
-- after errors, since ids commit out of order. p_only limits it to one message.
CREATE FUNCTION tasker.hold_messages_v1(
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

-- visible_messages_v1: the ids of up to p_limit visible messages, oldest first, to be tried one by one.
CREATE FUNCTION tasker.visible_messages_v1(p_queue text, p_limit integer) RETURNS SETOF bigint
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN QUERY EXECUTE format(
        'SELECT m.msg_id FROM pgmq.%I m WHERE m.vt <= $1 ORDER BY m.msg_id LIMIT $2', 'q_' || p_queue)
    USING tasker.now(), p_limit;
END;
$$;

CREATE FUNCTION tasker.drop_messages_v1(p_queue text, p_msg_ids bigint[]) RETURNS boolean
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

CREATE FUNCTION tasker.delay_messages_v1(p_queue text, p_msg_ids bigint[], p_delay interval) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    EXECUTE format('UPDATE pgmq.%I q SET vt = $2 WHERE q.msg_id = ANY ($1)', 'q_' || p_queue)
    USING p_msg_ids, tasker.now() + p_delay;
END;
$$;

-- What a core function hands to its broker to send: for each message its queue, task and step.
CREATE TYPE tasker.outbox AS (
    queues text[],
    tasks  uuid[],
    steps  uuid[]
);

-- push_steps_v1: send messages for steps to one queue and hint its readers once.
CREATE FUNCTION tasker.push_steps_v1(p_queue text, p_tasks uuid[], p_steps uuid[]) RETURNS boolean
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
CREATE FUNCTION tasker.send_steps_v1(p_outbox tasker.outbox) RETURNS boolean
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

SELECT tasker.ensure_queue_v1('orchestration_step_results');
SELECT tasker.ensure_queue_v1('orchestration_step_judgements');
