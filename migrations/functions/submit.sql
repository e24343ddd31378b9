-- submit_results_v1: submit_by_ids_v1 and its messages in one transaction. Returns the accepted steps.
CREATE OR REPLACE FUNCTION tasker.submit_results_v1(
    p_tasks uuid[], p_steps uuid[], p_tokens uuid[], p_results jsonb)
RETURNS TABLE (task_uuid uuid, step_uuid uuid)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_submitted record;
    v_done      boolean;
BEGIN
    v_submitted := tasker.submit_by_ids_v1(p_tasks, p_steps, p_tokens, p_results, '{}');
    v_done := tasker.send_steps_v1(ROW (v_submitted.queues, v_submitted.tasks, v_submitted.steps)::tasker.outbox);
    v_done := tasker.hint_watchers_v1(true);
    RETURN QUERY SELECT * FROM unnest(v_submitted.tasks, v_submitted.steps);
END;
$$;

-- submit_by_ids_v1: record what executions produced.
-- p_results has a result for each step: [{success, status, result, error, metadata, orchestration_metadata}].
-- It is accepted only if the step's lease still carries the token it was claimed with; the others came too late and
-- change nothing. Accepted: the lease ends, the result is stored, the step moves to a notification state. A success
-- clears the step's checkpoint; a failure leaves it, unless the attempt never yielded one and its result says how far
-- it had come. Plain successes of the tasks in p_free, which the caller has locked, move on to `complete` at once.
-- Returns the messages to send: plain successes to the results queue, what needs judgement (failures, decisions,
-- batches) to the judgements queue; and the steps that are complete, with the changes by which the caller has to
-- advance their tasks. The caller hints to watchers.
CREATE OR REPLACE FUNCTION tasker.submit_by_ids_v1(
    p_tasks uuid[], p_steps uuid[], p_tokens uuid[], p_results jsonb, p_free uuid[],
    OUT queues text[], OUT tasks uuid[], OUT steps uuid[],
    OUT complete_tasks uuid[], OUT complete_steps uuid[], OUT changes tasker.task_change[], OUT batched boolean)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    v_now      timestamptz;
    v_results  jsonb[];
    v_rows     tid[];
    v_leases   tid[];
    v_workers  uuid[];
    v_yielded  boolean[];
    v_complete boolean[];
BEGIN
    -- Locks the steps in order, then their leases: a renewal or the sweeper can only come before or after.
    SELECT array_agg(r.value), array_agg(s.ctid), array_agg(l.ctid), array_agg(l.worker_uuid), array_agg(l.yielded),
           array_agg(r.free AND s.plain AND (r.value ->> 'success')::boolean), bool_or(s.batched)
    INTO v_results, v_rows, v_leases, v_workers, v_yielded, v_complete, batched
    FROM (
        SELECT w.task_uuid, w.step_uuid, w.lease_token, p_results -> (w.place - 1)::integer AS value,
               w.task_uuid = ANY (p_free) AS free
        FROM unnest(p_tasks, p_steps, p_tokens) WITH ORDINALITY AS w(task_uuid, step_uuid, lease_token, place)
        ORDER BY w.step_uuid
    ) r
    CROSS JOIN LATERAL (
        SELECT s.ctid, s.step_type NOT IN ('decision', 'batchable') AS plain, s.batch_step_uuid IS NOT NULL AS batched
        FROM tasker.workflow_steps s
        WHERE s.task_uuid = r.task_uuid AND s.step_uuid = r.step_uuid AND s.state = 'in_progress'
        FOR NO KEY UPDATE
    ) s
    CROSS JOIN LATERAL (
        SELECT l.ctid, l.worker_uuid, l.yielded_by IS NOT DISTINCT FROM l.lease_token AS yielded
        FROM tasker.step_leases l
        WHERE l.task_uuid = r.task_uuid AND l.step_uuid = r.step_uuid
          AND l.lease_token = r.lease_token
        FOR UPDATE
    ) l;
    IF v_results IS NULL THEN
        RETURN;
    END IF;

    v_now := tasker.now();
    WITH reported AS MATERIALIZED (
        SELECT e.ctid, e.worker_uuid, (e.value ->> 'success')::boolean AS success, e.value ->> 'status' AS status,
               e.value -> 'result' AS result, nullif(e.value -> 'error', 'null') AS error,
               e.value -> 'metadata' AS metadata, nullif(e.value -> 'orchestration_metadata', 'null') AS orchestration,
               e.yielded, e.complete
        FROM unnest(v_results, v_rows, v_workers, v_yielded, v_complete) AS e(
            value, ctid, worker_uuid, yielded, complete)
    ), ended AS (
        DELETE FROM tasker.step_leases l WHERE l.ctid = ANY (v_leases)
    ), submitted AS (
        UPDATE tasker.workflow_steps s
        SET state = CASE WHEN r.complete THEN 'complete' WHEN r.success THEN 'enqueued_for_orchestration'
                         ELSE 'enqueued_as_error_for_orchestration' END,
            sort_key = s.sort_key + 1 + r.complete::integer, updated_at = v_now,
            completed_at = CASE WHEN r.complete THEN v_now ELSE s.completed_at END,
            checkpoint = CASE WHEN r.success THEN NULL
                              WHEN NOT r.yielded
                                   AND nullif(r.metadata #> '{context,checkpoint_progress}', 'null') IS NOT NULL
                              THEN tasker.kept_checkpoint_v1(s.checkpoint, r.metadata -> 'context', v_now)
                              ELSE s.checkpoint END
        FROM reported r
        WHERE s.ctid = r.ctid
        RETURNING s.task_uuid, s.step_uuid, s.sort_key - r.complete::integer AS sort_key, s.attempts, s.step_type,
                  CASE WHEN r.success THEN 'enqueued_for_orchestration'
                       ELSE 'enqueued_as_error_for_orchestration' END AS notification,
                  r.worker_uuid, r.success, r.status, r.result, r.error, r.metadata, r.orchestration, r.complete
    ), recorded AS (
        INSERT INTO tasker.workflow_step_transitions
               (task_uuid, step_uuid, sort_key, from_state, to_state, attempt, worker_uuid, created_at)
        SELECT s.task_uuid, s.step_uuid, s.sort_key, 'in_progress', s.notification, s.attempts, s.worker_uuid, v_now
        FROM submitted s
        UNION ALL
        SELECT s.task_uuid, s.step_uuid, s.sort_key + 1, s.notification, 'complete', s.attempts, NULL, v_now
        FROM submitted s WHERE s.complete
    ), stored AS (
        INSERT INTO tasker.step_results
               (task_uuid, step_uuid, sort_key, attempt, success, status, result, error, metadata, orchestration,
                recorded_at)
        SELECT s.task_uuid, s.step_uuid, s.sort_key, s.attempts, s.success, s.status, s.result, s.error,
               s.metadata, s.orchestration, v_now
        FROM submitted s
    )
    SELECT array_agg(CASE WHEN s.success AND s.step_type NOT IN ('decision', 'batchable')
                          THEN 'orchestration_step_results' ELSE 'orchestration_step_judgements' END)
               FILTER (WHERE NOT s.complete),
           array_agg(s.task_uuid) FILTER (WHERE NOT s.complete), array_agg(s.step_uuid) FILTER (WHERE NOT s.complete),
           array_agg(s.task_uuid) FILTER (WHERE s.complete), array_agg(s.step_uuid) FILTER (WHERE s.complete),
           array_agg(ROW (s.task_uuid, 0, 1, 0, -1, 0)::tasker.task_change) FILTER (WHERE s.complete)
    INTO queues, tasks, steps, complete_tasks, complete_steps, changes
    FROM submitted s;
END;
$$;
