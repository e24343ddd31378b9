-- phase: pre
-- wake_tasks_v1: look again at up to p_limit tasks whose timer is due.
-- Returns how many it woke and in how many milliseconds the next timer is due (null: none is set).
CREATE FUNCTION tasker.wake_tasks_v1(p_limit integer)
RETURNS TABLE (woken integer, next_due_ms double precision)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    v_now     timestamptz := tasker.now();
    v_changes tasker.task_change[];
    v_sent    boolean;
BEGIN
    SELECT array_agg(ROW (l.task_uuid, 0, 0, 0, 0, 0)::tasker.task_change) INTO v_changes
    FROM (
        SELECT t.task_uuid FROM tasker.tasks t
        WHERE t.wake_at <= v_now
        ORDER BY t.wake_at LIMIT p_limit
        FOR NO KEY UPDATE SKIP LOCKED
    ) l;
    woken := coalesce(cardinality(v_changes), 0);

    IF woken > 0 THEN
        v_sent := tasker.send_steps_v1(tasker.advance_tasks_v1(v_changes, NULL, NULL, true));
    END IF;

    -- Not greatest(0, …), which makes nothing of null: that would be a timer due at once.
    SELECT extract(epoch FROM min(t.wake_at) - tasker.now()) * 1000 INTO next_due_ms
    FROM tasker.tasks t WHERE t.wake_at IS NOT NULL;
    RETURN NEXT;
END;
$$;
