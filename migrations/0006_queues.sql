-- phase: pre
-- The thin layer over PGMQ. Messages hold ids and a format version: {"v": 1, "task_uuid": …, "step_uuid": …}.

-- Whether hints may be sent: a notification queue that fills up would make every commit fail.
CREATE FUNCTION tasker.hint_v1(p_channel text) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF pg_notification_queue_usage() < 0.5 THEN
        PERFORM pg_notify(p_channel, '');
    END IF;
END;
$$;

-- hint_watchers_v1: tell open streams that this transaction moves something they may show.
CREATE FUNCTION tasker.hint_watchers_v1(p_steps_only boolean) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF EXISTS (SELECT FROM tasker.watchers w
               WHERE w.expires_at > clock_timestamp() AND (w.steps OR NOT p_steps_only)) THEN
        PERFORM tasker.hint_v1('tasker_transitions');
    END IF;
END;
$$;

-- ensure_queue_v1: create a queue when it is first used. PGMQ takes an advisory lock, so racing is harmless.
CREATE FUNCTION tasker.ensure_queue_v1(p_queue text) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF to_regclass(format('pgmq.%I', 'q_' || p_queue)) IS NULL THEN
        PERFORM pgmq.create(p_queue);
        -- Every message would pay for an index that nothing here reads: messages are read by id, from the low-water
        -- mark upwards.
        EXECUTE format('DROP INDEX IF EXISTS pgmq.%I', 'q_' || p_queue || '_vt_idx');
    END IF;
END;
$$;

-- pop_messages_v1: delete and return up to p_limit visible messages, oldest first.
-- Its own delete, not pgmq.pop: that one visits every dead row below the first live message, while this
-- starts above p_low_water. Callers give 0 every second and after errors, since ids commit out of order.
-- p_only limits it to one message.
CREATE FUNCTION tasker.pop_messages_v1(p_queue text, p_limit integer, p_low_water bigint, p_only bigint)
RETURNS TABLE (msg_id bigint, message jsonb)
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off AS $$
BEGIN
    RETURN QUERY EXECUTE format($sql$
        DELETE FROM pgmq.%1$I q
        WHERE q.msg_id = ANY (ARRAY(
            SELECT m.msg_id FROM pgmq.%1$I m
            WHERE m.msg_id > $1 AND m.msg_id <= $4 AND m.vt <= $2
            ORDER BY m.msg_id LIMIT $3
            FOR UPDATE SKIP LOCKED))
        RETURNING q.msg_id, q.message
    $sql$, 'q_' || p_queue)
    USING coalesce(p_only - 1, p_low_water), tasker.now(), p_limit, coalesce(p_only, 9223372036854775807);
END;
$$;

-- The results queue is the busiest and its name is fixed: here and below its statements are written out, so that
-- they are planned once and not at every call.

-- hold_messages_v1: lock up to p_limit visible messages without deleting them; the caller decides which
-- to drop_messages and which to delay_messages.
CREATE FUNCTION tasker.hold_messages_v1(p_queue text, p_limit integer, p_low_water bigint, p_only bigint)
RETURNS TABLE (msg_id bigint, task_uuid uuid, step_uuid uuid)
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    v_now  timestamptz := tasker.now();
    v_from bigint := coalesce(p_only - 1, p_low_water);
    v_to   bigint := coalesce(p_only, 9223372036854775807);
BEGIN
    IF p_queue = 'orchestration_step_results' THEN
        RETURN QUERY
        SELECT m.msg_id, (m.message ->> 'task_uuid')::uuid, (m.message ->> 'step_uuid')::uuid
        FROM pgmq.q_orchestration_step_results m
        WHERE m.msg_id > v_from AND m.msg_id <= v_to AND m.vt <= v_now
        ORDER BY m.msg_id LIMIT p_limit
        FOR UPDATE SKIP LOCKED;
        RETURN;
    END IF;
    RETURN QUERY EXECUTE format($sql$
        SELECT m.msg_id, (m.message ->> 'task_uuid')::uuid, (m.message ->> 'step_uuid')::uuid
        FROM pgmq.%1$I m
        WHERE m.msg_id > $1 AND m.msg_id <= $4 AND m.vt <= $2
        ORDER BY m.msg_id LIMIT $3
        FOR UPDATE SKIP LOCKED
    $sql$, 'q_' || p_queue) USING v_from, v_now, p_limit, v_to;
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

CREATE FUNCTION tasker.drop_messages_v1(p_queue text, p_msg_ids bigint[]) RETURNS void
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET jit = off SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    IF p_queue = 'orchestration_step_results' THEN
        DELETE FROM pgmq.q_orchestration_step_results q WHERE q.msg_id = ANY (p_msg_ids);
        RETURN;
    END IF;
    EXECUTE format('DELETE FROM pgmq.%I q WHERE q.msg_id = ANY ($1)', 'q_' || p_queue) USING p_msg_ids;
END;
$$;

CREATE FUNCTION tasker.delay_messages_v1(p_queue text, p_msg_ids bigint[], p_delay interval) RETURNS void
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET jit = off AS $$
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

-- send_steps_v1: send what is in an outbox and hint each queue's readers once.
CREATE FUNCTION tasker.send_steps_v1(p_outbox tasker.outbox) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_queue    text;
    v_messages jsonb[];
BEGIN
    FOR v_queue, v_messages IN
        SELECT m.queue, array_agg(jsonb_build_object('v', 1, 'task_uuid', m.task_uuid, 'step_uuid', m.step_uuid))
        FROM unnest(p_outbox.queues, p_outbox.tasks, p_outbox.steps) AS m(queue, task_uuid, step_uuid)
        WHERE m.queue IS NOT NULL
        GROUP BY m.queue
        ORDER BY m.queue
    LOOP
        PERFORM tasker.ensure_queue_v1(v_queue);
        IF v_queue = 'orchestration_step_results' THEN
            INSERT INTO pgmq.q_orchestration_step_results (vt, message)
            SELECT clock_timestamp(), unnest(v_messages);
        ELSE
            EXECUTE format('INSERT INTO pgmq.%I (vt, message) SELECT clock_timestamp(), unnest($1)', 'q_' || v_queue)
            USING v_messages;
        END IF;
        PERFORM tasker.hint_v1('tasker_' || v_queue);
    END LOOP;
END;
$$;

SELECT tasker.ensure_queue_v1('orchestration_step_results');
SELECT tasker.ensure_queue_v1('orchestration_step_judgements');
