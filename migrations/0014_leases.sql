-- phase: pre
-- renew_leases_v1: prolong the leases of a worker's running steps and keep the worker alive, in one statement each.
-- Returns the steps whose lease is gone or carries another token: their handlers run for nothing.
CREATE FUNCTION tasker.renew_leases_v1(
    p_worker uuid, p_tasks uuid[], p_steps uuid[], p_tokens uuid[], p_lease interval)
RETURNS TABLE (step_uuid uuid)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    v_rows tid[];
BEGIN
    SELECT array_agg(l.ctid) INTO v_rows
    FROM (
        SELECT * FROM unnest(p_tasks, p_steps, p_tokens) AS w(task_uuid, step_uuid, lease_token) ORDER BY w.step_uuid
    ) w
    CROSS JOIN LATERAL (
        SELECT l.ctid FROM tasker.step_leases l
        WHERE l.task_uuid = w.task_uuid AND l.step_uuid = w.step_uuid AND l.lease_token = w.lease_token
        FOR UPDATE SKIP LOCKED
    ) l;
    UPDATE tasker.step_leases l SET expires_at = tasker.now() + p_lease WHERE l.ctid = ANY (v_rows);

    UPDATE tasker.workers w SET heartbeat_at = tasker.now(), slots_in_use = cardinality(p_steps)
    WHERE w.worker_uuid = p_worker;

    -- A lease that another transaction holds right now is not lost: it is being submitted.
    RETURN QUERY
    SELECT w.step_uuid FROM unnest(p_tasks, p_steps, p_tokens) AS w(task_uuid, step_uuid, lease_token)
    LEFT JOIN LATERAL (
        SELECT true AS held FROM tasker.step_leases l
        WHERE l.task_uuid = w.task_uuid AND l.step_uuid = w.step_uuid AND l.lease_token = w.lease_token LIMIT 1
    ) l ON true
    WHERE l.held IS NULL;
END;
$$;

-- sweep_leases_v1: submit a `worker_lost` result for up to p_limit steps whose lease has expired.
-- It acts as their worker: same token, same function, so a late real result that comes first wins. Like a submit it
-- locks the step before its lease; steps that somebody holds are left for the next sweep. It does nothing until one
-- lease time after PostgreSQL's start, when no worker could renew. Returns how many it submitted.
CREATE FUNCTION tasker.sweep_leases_v1(p_limit integer, p_lease interval) RETURNS integer
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_now     timestamptz := tasker.now();
    v_results jsonb;
    v_count   integer;
BEGIN
    IF v_now < pg_postmaster_start_time() + p_lease THEN
        RETURN 0;
    END IF;

    -- A lease whose step has moved on by other means holds nothing; it must not stand in the way of the others.
    DELETE FROM tasker.step_leases l WHERE l.ctid = ANY (ARRAY(
        SELECT l.ctid FROM tasker.step_leases l
        CROSS JOIN LATERAL (
            SELECT s.state FROM tasker.workflow_steps s
            WHERE s.task_uuid = l.task_uuid AND s.step_uuid = l.step_uuid LIMIT 1
        ) s
        WHERE l.expires_at <= v_now AND s.state <> 'in_progress'
        FOR UPDATE OF l SKIP LOCKED));

    SELECT jsonb_agg(jsonb_build_object(
        'task_uuid', l.task_uuid, 'step_uuid', l.step_uuid, 'lease_token', l.lease_token,
        'success', false, 'status', 'error', 'result', '{}'::jsonb,
        'error', jsonb_build_object(
            'message', format('worker %s stopped renewing the lease of attempt %s', l.worker_uuid, l.attempt),
            'error_type', 'worker_lost', 'retryable', true, 'backtrace', '[]'::jsonb, 'context', '{}'::jsonb),
        'metadata', jsonb_build_object(
            'retryable', true, 'error_type', 'worker_lost', 'worker_id', 'worker_' || l.worker_uuid,
            'completed_at', v_now)))
    INTO v_results
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

    SELECT count(*) INTO v_count FROM tasker.submit_results_v1(v_results);
    RETURN v_count;
END;
$$;
