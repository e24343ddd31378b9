-- renew_leases_v1: prolong the leases of a worker's running steps, in one statement.
-- Returns the steps whose lease is gone or carries another token: their handlers run for nothing.
CREATE OR REPLACE FUNCTION tasker.renew_leases_v1(
    p_tasks uuid[], p_steps uuid[], p_tokens uuid[], p_lease interval)
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

    -- A lease that another transaction has locked right now is not lost: it is being submitted.
    RETURN QUERY
    SELECT w.step_uuid FROM unnest(p_tasks, p_steps, p_tokens) AS w(task_uuid, step_uuid, lease_token)
    LEFT JOIN LATERAL (
        SELECT true AS there FROM tasker.step_leases l
        WHERE l.task_uuid = w.task_uuid AND l.step_uuid = w.step_uuid AND l.lease_token = w.lease_token LIMIT 1
    ) l ON true
    WHERE l.there IS NULL;
END;
$$;

-- begin_suspect_v1: note in which company a suspect begins to run: `alone`, or `beside` others after all. Returns false
-- if its lease is lost.
CREATE OR REPLACE FUNCTION tasker.begin_suspect_v1(p_task uuid, p_step uuid, p_token uuid, p_company text)
RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    UPDATE tasker.step_leases l SET company = p_company
    WHERE l.task_uuid = p_task AND l.step_uuid = p_step AND l.lease_token = p_token;
    RETURN FOUND;
END;
$$;
