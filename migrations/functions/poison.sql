-- record_poison_v1: take a message that no retry can help out of its queue and keep it for people.
-- Its step, where the message names one that is in flight, moves to `error`, so that its task does not hang.
-- Returns false when the message was no longer there.
CREATE OR REPLACE FUNCTION tasker.record_poison_v1(p_queue text, p_msg_id bigint, p_error text) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_uuid    CONSTANT text := '^[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$';
    v_message jsonb;
    v_task    uuid;
    v_step    uuid;
BEGIN
    EXECUTE format('DELETE FROM pgmq.%I q WHERE q.msg_id = $1 RETURNING q.message', 'q_' || p_queue)
    INTO v_message USING p_msg_id;
    IF v_message IS NULL THEN
        RETURN false;
    END IF;

    v_task := substring(v_message ->> 'task_uuid' FROM v_uuid)::uuid;
    v_step := substring(v_message ->> 'step_uuid' FROM v_uuid)::uuid;
    INSERT INTO tasker.poison_messages (queue, msg_id, message, error, task_uuid, step_uuid, recorded_at)
    VALUES (p_queue, p_msg_id, v_message, p_error, v_task, v_step, tasker.now());

    PERFORM FROM tasker.tasks t WHERE t.task_uuid = v_task FOR NO KEY UPDATE;
    IF FOUND AND v_step IS NOT NULL THEN
        PERFORM tasker.apply_verdicts_v1(jsonb_build_array(jsonb_build_object(
            'task_uuid', v_task, 'step_uuid', v_step, 'verdict', 'poison',
            -- The whole text may hold SQL and values: it stays with the poison record.
            'reason', 'result_processing_error: ' || split_part(p_error, ':', 1))));
    END IF;
    RETURN true;
END;
$$;
