-- any_expired_leases_v1: the engine's time, and whether any lease has ended. A statement of its own before the sweep: one
-- that PostgreSQL holds up for a while must not sweep what nobody could renew meanwhile.
CREATE OR REPLACE FUNCTION tasker.any_expired_leases_v1(OUT instant timestamptz, OUT expired boolean)
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    instant := tasker.now();
    expired := EXISTS (SELECT FROM tasker.step_leases l WHERE l.expires_at <= instant);
END;
$$;

-- sweep_leases_v1: submit a `worker_lost` result for up to p_limit steps whose lease has expired.
-- It acts as their worker: same token, same function, so a late real result that comes first wins. Like a submit it
-- locks the step before its lease; steps that somebody has locked are left for the next sweep. It does nothing until
-- one lease time after PostgreSQL's start, when no worker could renew. Returns how many it submitted.
CREATE OR REPLACE FUNCTION tasker.sweep_leases_v1(p_limit integer, p_lease interval) RETURNS integer
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_now     timestamptz := tasker.now();
    v_tasks   uuid[];
    v_steps   uuid[];
    v_tokens  uuid[];
    v_results jsonb;
    v_count   integer;
BEGIN
    IF v_now < pg_postmaster_start_time() + p_lease THEN
        RETURN 0;
    END IF;

    -- A lease whose step has moved on by other means means nothing; it must not stand in the way of the others.
    DELETE FROM tasker.step_leases l WHERE l.ctid = ANY (ARRAY(
        SELECT l.ctid FROM tasker.step_leases l
        CROSS JOIN LATERAL (
            SELECT s.state FROM tasker.workflow_steps s
            WHERE s.task_uuid = l.task_uuid AND s.step_uuid = l.step_uuid LIMIT 1
        ) s
        WHERE l.expires_at <= v_now AND s.state <> 'in_progress'
        FOR UPDATE OF l SKIP LOCKED));

    SELECT array_agg(l.task_uuid), array_agg(l.step_uuid), array_agg(l.lease_token), jsonb_agg(jsonb_build_object(
        'success', false, 'status', 'error', 'result', '{}'::jsonb,
        'error', jsonb_build_object(
            'message', format('worker %s stopped renewing the lease of attempt %s', l.worker_uuid, l.attempt),
            'error_type', 'worker_lost', 'retryable', true, 'backtrace', '[]'::jsonb,
            'context', jsonb_build_object('company', l.company)),
        'metadata', jsonb_build_object(
            'retryable', true, 'error_type', 'worker_lost', 'worker_id', 'worker_' || l.worker_uuid,
            'completed_at', v_now)))
    INTO v_tasks, v_steps, v_tokens, v_results
    FROM (
        SELECT l.task_uuid, l.step_uuid FROM tasker.step_leases l
        WHERE l.expires_at <= v_now
        ORDER BY l.expires_at LIMIT p_limit
    ) expired
    CROSS JOIN LATERAL (
        SELECT FROM tasker.workflow_steps s
        WHERE s.task_uuid = expired.task_uuid AND s.step_uuid = expired.step_uuid AND s.state = 'in_progress'
        FOR NO KEY UPDATE SKIP LOCKED
    ) s
    CROSS JOIN LATERAL (
        SELECT * FROM tasker.step_leases l
        WHERE l.task_uuid = expired.task_uuid AND l.step_uuid = expired.step_uuid AND l.expires_at <= v_now
        FOR UPDATE SKIP LOCKED
    ) l;
    IF v_results IS NULL THEN
        RETURN 0;
    END IF;

    SELECT count(*) INTO v_count FROM tasker.submit_results_v1(v_tasks, v_steps, v_tokens, v_results);
    RETURN v_count;
END;
$$;
