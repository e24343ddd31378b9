-- fire_timers_v1: look at up to p_limit tasks whose timer is due: cancel those that have expired, advance the others.
-- One that somebody else has locked is left for a later call; what they made of it counts, so of an expiry and a last
-- result exactly one wins. Returns how many it took, which of them it cancelled, and in how many milliseconds the next
-- timer is due (null: none is set).
CREATE OR REPLACE FUNCTION tasker.fire_timers_v1(p_limit integer)
RETURNS TABLE (woken integer, next_due_ms double precision, expired uuid[])
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    v_now     timestamptz := tasker.now();
    v_changes tasker.task_change[];
    v_expired uuid[];
    v_done    boolean;
BEGIN
    SELECT count(*),
           array_agg(ROW (l.task_uuid, 0, 0, 0, 0, 0)::tasker.task_change) FILTER (WHERE NOT l.has_expired),
           array_agg(l.task_uuid) FILTER (WHERE l.has_expired)
    INTO woken, v_changes, v_expired
    FROM (
        SELECT t.task_uuid, t.terminal_at IS NULL AND coalesce(t.expires_at <= v_now, false) AS has_expired
        FROM tasker.tasks t
        WHERE t.wake_at <= v_now
        ORDER BY t.wake_at LIMIT p_limit
        FOR NO KEY UPDATE SKIP LOCKED
    ) l;
    expired := coalesce(v_expired, '{}');

    IF v_expired IS NOT NULL THEN
        v_done := tasker.cancel_tasks_v1(v_expired, '{"event": "cancel", "reason": "ttl_expired"}');
    END IF;
    IF v_changes IS NOT NULL THEN
        v_done := tasker.send_steps_v1(tasker.advance_tasks_v1(v_changes, NULL, NULL, true));
    END IF;

    -- Not greatest(0, …), which makes nothing of null: that would be a timer due at once.
    SELECT extract(epoch FROM min(t.wake_at) - tasker.now()) * 1000 INTO next_due_ms
    FROM tasker.tasks t WHERE t.wake_at IS NOT NULL;
    RETURN NEXT;
END;
$$;
