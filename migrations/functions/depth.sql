-- queue_depth_v1: how many messages a queue has, visible or put off; 0 if nobody has used it yet. Up to p_exact they are
-- counted. Beyond that counting would cost more than the answer is worth: it is what the statistics of the table say,
-- but no more than there are ids from the oldest message to the newest.
CREATE OR REPLACE FUNCTION tasker.queue_depth_v1(p_queue text, p_exact integer) RETURNS bigint
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_table CONSTANT regclass := to_regclass(format('pgmq.%I', 'q_' || p_queue));
    v_count bigint;
    v_span  bigint;
BEGIN
    IF v_table IS NULL THEN
        RETURN 0;
    END IF;
    EXECUTE format(
        'SELECT count(*) FROM (SELECT FROM pgmq.%I m WHERE m.msg_id > 0 ORDER BY m.msg_id LIMIT $1) m', 'q_' || p_queue)
    INTO v_count USING p_exact;
    IF v_count < p_exact THEN
        RETURN v_count;
    END IF;
    EXECUTE format('SELECT max(m.msg_id) - min(m.msg_id) + 1 FROM pgmq.%I m', 'q_' || p_queue) INTO v_span;
    RETURN greatest(v_count, least(v_span, pg_stat_get_live_tuples(v_table)));
END;
$$;
