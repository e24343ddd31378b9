-- phase: pre
-- Checkpoints: how far a running step says it has come, so that its next attempt goes on from there.

-- The token of the claim that has yielded a checkpoint; compared with the lease's own, since a claim takes over the
-- row of one before it.
ALTER TABLE tasker.step_leases ADD COLUMN yielded_by uuid;

-- next_checkpoint_v1: the checkpoint that follows p_before. The history keeps the newest hundred places; one that takes
-- more than a kilobyte is kept as null there, since every write of the checkpoint writes them all.
CREATE FUNCTION tasker.next_checkpoint_v1(
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

-- checkpoint_step_v1: store how far a running step has come, and prolong its lease.
-- Only the holder of the lease may: for anybody else nothing changes and the answer is null. Neither the state nor the
-- attempts change, and no transition is written. p_checkpoint: {cursor, items_processed, accumulated_results}.
-- Returns the checkpoint as it is stored.
CREATE FUNCTION tasker.checkpoint_step_v1(
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

-- kept_progress_v1: the checkpoint of a step whose attempt failed without a yield and says in its metadata how far it
-- had come: p_context: {checkpoint_progress, processed_before_failure, resumed_from}.
CREATE FUNCTION tasker.kept_progress_v1(p_before jsonb, p_context jsonb, p_now timestamptz) RETURNS jsonb
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

-- submit_by_ids_v1: as in 0010, and it looks after the checkpoint: a success clears it; a failure leaves it, unless the
-- attempt never yielded one and its result says how far it had come.
CREATE OR REPLACE FUNCTION tasker.submit_by_ids_v1(p_results jsonb) RETURNS tasker.outbox
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    v_now     timestamptz;
    v_results jsonb[];
    v_rows    tid[];
    v_leases  tid[];
    v_workers uuid[];
    v_yielded boolean[];
    v_outbox  tasker.outbox;
    v_hinted  boolean;
BEGIN
    -- Locks the steps in order, then their leases: a renewal or the sweeper can only come before or after.
    SELECT array_agg(r.value), array_agg(s.ctid), array_agg(l.ctid), array_agg(l.worker_uuid), array_agg(l.yielded)
    INTO v_results, v_rows, v_leases, v_workers, v_yielded
    FROM (
        SELECT r.value, (r.value ->> 'task_uuid')::uuid AS task_uuid, (r.value ->> 'step_uuid')::uuid AS step_uuid
        FROM jsonb_array_elements(p_results) AS r(value)
        ORDER BY (r.value ->> 'step_uuid')::uuid
    ) r
    CROSS JOIN LATERAL (
        SELECT s.ctid FROM tasker.workflow_steps s
        WHERE s.task_uuid = r.task_uuid AND s.step_uuid = r.step_uuid AND s.state = 'in_progress'
        FOR NO KEY UPDATE
    ) s
    CROSS JOIN LATERAL (
        SELECT l.ctid, l.worker_uuid, l.yielded_by IS NOT DISTINCT FROM l.lease_token AS yielded
        FROM tasker.step_leases l
        WHERE l.task_uuid = r.task_uuid AND l.step_uuid = r.step_uuid
          AND l.lease_token = (r.value ->> 'lease_token')::uuid
        FOR UPDATE
    ) l;
    IF v_results IS NULL THEN
        RETURN v_outbox;
    END IF;

    v_now := tasker.now();
    WITH reported AS MATERIALIZED (
        SELECT e.ctid, e.worker_uuid, (e.value ->> 'success')::boolean AS success, e.value ->> 'status' AS status,
               e.value -> 'result' AS result, nullif(e.value -> 'error', 'null') AS error,
               e.value -> 'metadata' AS metadata, nullif(e.value -> 'orchestration_metadata', 'null') AS orchestration,
               e.yielded
        FROM unnest(v_results, v_rows, v_workers, v_yielded) AS e(value, ctid, worker_uuid, yielded)
    ), ended AS (
        DELETE FROM tasker.step_leases l WHERE l.ctid = ANY (v_leases)
    ), submitted AS (
        UPDATE tasker.workflow_steps s
        SET state = CASE WHEN r.success THEN 'enqueued_for_orchestration'
                         ELSE 'enqueued_as_error_for_orchestration' END,
            sort_key = s.sort_key + 1, updated_at = v_now,
            checkpoint = CASE WHEN r.success THEN NULL
                              WHEN NOT r.yielded
                                   AND nullif(r.metadata #> '{context,checkpoint_progress}', 'null') IS NOT NULL
                              THEN tasker.kept_progress_v1(s.checkpoint, r.metadata -> 'context', v_now)
                              ELSE s.checkpoint END
        FROM reported r
        WHERE s.ctid = r.ctid
        RETURNING s.task_uuid, s.step_uuid, s.sort_key, s.state, s.attempts, s.step_type,
                  r.worker_uuid, r.success, r.status, r.result, r.error, r.metadata, r.orchestration
    ), recorded AS (
        INSERT INTO tasker.workflow_step_transitions
               (task_uuid, step_uuid, sort_key, from_state, to_state, attempt, worker_uuid, created_at)
        SELECT s.task_uuid, s.step_uuid, s.sort_key, 'in_progress', s.state, s.attempts, s.worker_uuid, v_now
        FROM submitted s
    ), stored AS (
        INSERT INTO tasker.step_results
               (task_uuid, step_uuid, sort_key, attempt, success, status, result, error, metadata, orchestration,
                recorded_at)
        SELECT s.task_uuid, s.step_uuid, s.sort_key, s.attempts, s.success, s.status, s.result, s.error,
               s.metadata, s.orchestration, v_now
        FROM submitted s
    )
    SELECT array_agg(CASE WHEN s.success AND s.step_type NOT IN ('decision', 'batchable')
                          THEN 'orchestration_step_results' ELSE 'orchestration_step_judgements' END),
           array_agg(s.task_uuid), array_agg(s.step_uuid)
    INTO v_outbox
    FROM submitted s;

    v_hinted := tasker.hint_watchers_v1(true);
    RETURN v_outbox;
END;
$$;
