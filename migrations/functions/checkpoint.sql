-- checkpoint_step_v1: store how far a running step has come, and prolong its lease.
-- Only who has the lease may: for anybody else nothing changes and the answer is null. Neither the state nor the
-- attempts change, and no transition is written. p_checkpoint: {cursor, items_processed, accumulated_results}.
-- Returns the checkpoint as it is stored.
CREATE OR REPLACE FUNCTION tasker.checkpoint_step_v1(
    p_task uuid, p_step uuid, p_token uuid, p_lease interval, p_checkpoint jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_now    timestamptz;
    v_stored jsonb;
BEGIN
    -- In the order of a submit: the step, then its lease.
    SELECT s.checkpoint INTO v_stored FROM tasker.workflow_steps s
    WHERE s.task_uuid = p_task AND s.step_uuid = p_step AND s.state = 'in_progress'
    FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    UPDATE tasker.step_leases l SET expires_at = tasker.now() + p_lease, yielded_by = p_token
    WHERE l.task_uuid = p_task AND l.step_uuid = p_step AND l.lease_token = p_token;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;

    v_now := tasker.now();
    v_stored := tasker.next_checkpoint_v1(
        v_stored, p_checkpoint -> 'cursor', p_checkpoint -> 'items_processed', p_checkpoint -> 'accumulated_results', v_now);
    UPDATE tasker.workflow_steps s SET checkpoint = v_stored, updated_at = v_now
    WHERE s.task_uuid = p_task AND s.step_uuid = p_step;
    RETURN v_stored;
END;
$$;

-- next_checkpoint_v1: the checkpoint that follows p_before. The history keeps the newest hundred places; one that takes
-- more than a kilobyte is kept as null there, since every write of the checkpoint writes them all.
CREATE OR REPLACE FUNCTION tasker.next_checkpoint_v1(
    p_before jsonb, p_cursor jsonb, p_items jsonb, p_results jsonb, p_now timestamptz) RETURNS jsonb
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_history jsonb := '[]';
BEGIN
    IF jsonb_typeof(p_before -> 'history') = 'array' THEN
        v_history := p_before -> 'history';
    END IF;
    WHILE jsonb_array_length(v_history) >= 100 LOOP
        v_history := v_history - 0;
    END LOOP;
    RETURN jsonb_build_object(
        'cursor', p_cursor, 'items_processed', coalesce(p_items, '0'), 'timestamp', p_now,
        'accumulated_results', p_results,
        'history', v_history || jsonb_build_object(
            'cursor', CASE WHEN pg_column_size(p_cursor) <= 1024 THEN p_cursor END, 'timestamp', p_now));
END;
$$;

-- kept_checkpoint_v1: the checkpoint of a step whose attempt failed without a yield and says in its metadata how far it
-- had come: p_context: {checkpoint_progress, processed_before_failure, resumed_from}.
CREATE OR REPLACE FUNCTION tasker.kept_checkpoint_v1(p_before jsonb, p_context jsonb, p_now timestamptz) RETURNS jsonb
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_items jsonb := p_context -> 'processed_before_failure';
BEGIN
    IF coalesce(jsonb_typeof(v_items), '') <> 'number' THEN
        v_items := coalesce(p_before -> 'items_processed', '0');
    END IF;
    RETURN tasker.next_checkpoint_v1(
               p_before, p_context -> 'checkpoint_progress', v_items,
               coalesce(p_context -> 'accumulated_results', p_before -> 'accumulated_results'), p_now)
           || CASE WHEN p_context ? 'resumed_from'
                   THEN jsonb_build_object('resumed_from', p_context -> 'resumed_from') ELSE '{}' END;
END;
$$;
