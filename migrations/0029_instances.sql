-- phase: pre
-- What an instance of a batch costs hardly grows with the number of the others: which of them may be enqueued is found
-- without sorting them, and a claim does not bring the cursors of the others along.

-- free_instances_v1: the instances of a task's batches that are ready and may be enqueued now:
-- at most as many of each batch in flight as it allows, of all batches together as the task allows; where a batch fails
-- fast and has a failed instance, none that has not begun, except one that an operator has reset. In flight means
-- enqueued or in progress. Oldest first.
CREATE OR REPLACE FUNCTION tasker.free_instances_v1(p_task uuid, p_limit integer) RETURNS SETOF uuid
LANGUAGE sql STABLE AS $$
    WITH batch AS MATERIALIZED (
        SELECT s.batch_step_uuid, max(s.batch_parallelism) AS parallelism,
               count(*) FILTER (WHERE s.state IN ('enqueued', 'in_progress')) AS in_flight,
               bool_or(s.batch_fail_fast AND s.state = 'error') AS given_up,
               bool_or(s.state IN ('pending', 'waiting_for_retry')) AS unfinished
        FROM tasker.workflow_steps s
        WHERE s.task_uuid = p_task AND s.batch_step_uuid IS NOT NULL
        GROUP BY s.batch_step_uuid
    )
    SELECT i.step_uuid
    FROM batch b
    CROSS JOIN LATERAL (
        SELECT s.step_uuid FROM tasker.workflow_steps s
        WHERE s.task_uuid = p_task AND s.batch_step_uuid = b.batch_step_uuid AND s.unmet_parents = 0
          AND ((s.state = 'waiting_for_retry' AND s.next_retry_at <= tasker.now())
               OR (s.state = 'pending' AND (NOT b.given_up OR s.results_after > 0)))
        ORDER BY s.step_uuid
        LIMIT greatest(0, b.parallelism - b.in_flight)
    ) i
    WHERE b.unfinished
    ORDER BY i.step_uuid
    LIMIT greatest(0, p_limit - (SELECT sum(b.in_flight) FROM batch b))
$$;

-- ancestor_results_v1: the newest results of the steps that a step descends from, as far as they are complete.
-- An instance of a batch (p_batch: the step that split the work) has its own cursors in its inputs; those of the others
-- are left out of what it sees.
CREATE FUNCTION tasker.ancestor_results_v1(p_task uuid, p_ancestors uuid[], p_batch uuid)
RETURNS TABLE (name text, result jsonb)
LANGUAGE sql STABLE AS $$
    SELECT p.name,
           CASE WHEN p.step_uuid = p_batch THEN r.result #- '{batch_processing_outcome,cursor_configs}'
                ELSE r.result END
    FROM unnest(p_ancestors) AS ancestor(step_uuid)
    CROSS JOIN LATERAL (
        SELECT p.task_uuid, p.step_uuid, p.name, p.state FROM tasker.workflow_steps p
        WHERE p.task_uuid = p_task AND p.step_uuid = ancestor.step_uuid LIMIT 1
    ) p
    CROSS JOIN LATERAL (
        SELECT r.result FROM tasker.step_results r
        WHERE r.task_uuid = p.task_uuid AND r.step_uuid = p.step_uuid
        ORDER BY r.sort_key DESC LIMIT 1
    ) r
    WHERE p.state = 'complete'
$$;

-- claim_by_ids_v1: hand enqueued steps to a worker.
-- Takes the steps that are still `enqueued` and whose handler is among p_handlers (null: any), counts the attempt,
-- starts their lease under the worker's token and returns all a handler needs. Steps that moved on are left out:
-- their message is no longer needed. Context and dependency results that together take more than p_hydration_bytes
-- stay behind (`hydrated` is false then); hydrate_step_v1 fetches them outside this transaction.
CREATE OR REPLACE FUNCTION tasker.claim_by_ids_v1(
    p_tasks uuid[], p_steps uuid[], p_handlers text[], p_worker uuid, p_token uuid, p_lease interval,
    p_hydration_bytes integer
) RETURNS TABLE (
    task_uuid uuid, step_uuid uuid, name text, template_step_name text, handler text, namespace text,
    template_digest bytea, correlation_id uuid, attempt integer, max_attempts integer, timeout_seconds integer,
    inputs jsonb, checkpoint jsonb, context jsonb, dependencies jsonb, hydrated boolean)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    v_now        timestamptz;
    v_rows       tid[];
    v_may_repeat boolean;
    v_setting    text;
    v_hinted     boolean;
BEGIN
    SELECT array_agg(s.ctid),
           bool_and(s.retryable AND s.attempts + 1 < s.max_attempts AND s.on_worker_lost = 'retry')
    INTO v_rows, v_may_repeat
    FROM (
        SELECT DISTINCT m.step_uuid, m.task_uuid FROM unnest(p_tasks, p_steps) AS m(task_uuid, step_uuid)
        ORDER BY m.step_uuid
    ) m
    CROSS JOIN LATERAL (
        SELECT s.ctid, s.retryable, s.attempts, s.max_attempts, s.on_worker_lost FROM tasker.workflow_steps s
        WHERE s.task_uuid = m.task_uuid AND s.step_uuid = m.step_uuid AND s.state = 'enqueued'
          AND (p_handlers IS NULL OR s.handler = ANY (p_handlers))
        FOR NO KEY UPDATE
    ) s;
    IF v_rows IS NULL THEN
        RETURN;
    END IF;

    -- A crash of the database may forget this claim if it is allowed to happen again: no wait for the disk.
    -- One claim of the transaction that may not decides for all of them.
    IF NOT v_may_repeat THEN
        v_setting := set_config('synchronous_commit', 'on', true);
        v_setting := set_config('tasker.claim_waits', 'on', true);
    ELSIF coalesce(current_setting('tasker.claim_waits', true), '') <> 'on' THEN
        v_setting := set_config('synchronous_commit', 'off', true);
    END IF;

    v_now := tasker.now();
    RETURN QUERY
    WITH claimed AS (
        UPDATE tasker.workflow_steps s
        SET state = 'in_progress', sort_key = s.sort_key + 1, attempts = s.attempts + 1,
            last_attempted_at = v_now, updated_at = v_now
        WHERE s.ctid = ANY (v_rows)
        RETURNING s.*
    ), leased AS (
        INSERT INTO tasker.step_leases (task_uuid, step_uuid, lease_token, worker_uuid, attempt, expires_at)
        SELECT c.task_uuid, c.step_uuid, p_token, p_worker, c.attempts, v_now + p_lease FROM claimed c
        ON CONFLICT (task_uuid, step_uuid) DO UPDATE
        SET lease_token = excluded.lease_token, worker_uuid = excluded.worker_uuid,
            attempt = excluded.attempt, expires_at = excluded.expires_at
    ), recorded AS (
        INSERT INTO tasker.workflow_step_transitions
               (task_uuid, step_uuid, sort_key, from_state, to_state, attempt, worker_uuid, created_at)
        SELECT c.task_uuid, c.step_uuid, c.sort_key, 'enqueued', 'in_progress', c.attempts, p_worker, v_now
        FROM claimed c
    )
    SELECT c.task_uuid, c.step_uuid, c.name, c.template_step_name, c.handler,
           (SELECT ns.name FROM tasker.task_namespaces ns WHERE ns.namespace_id = t.namespace_id),
           t.template_digest::bytea,
           t.correlation_id, c.attempts, c.max_attempts, c.timeout_seconds, c.inputs, c.checkpoint,
           CASE WHEN h.all_small THEN t.context END,
           CASE WHEN h.all_small THEN d.results ELSE '{}' END,
           h.all_small
    FROM claimed c
    CROSS JOIN LATERAL (
        SELECT t.namespace_id, t.template_digest, t.correlation_id, t.context FROM tasker.tasks t
        WHERE t.task_uuid = c.task_uuid LIMIT 1
    ) t
    CROSS JOIN LATERAL (
        -- Without the large ones, so that what is too much is never put together.
        SELECT coalesce(jsonb_object_agg(a.name, a.result) FILTER (WHERE a.size <= p_hydration_bytes), '{}') AS results,
               coalesce(sum(a.size), 0) AS size
        FROM (
            SELECT r.name, r.result, pg_column_size(r.result) AS size
            FROM tasker.ancestor_results_v1(c.task_uuid, c.ancestor_uuids, c.batch_step_uuid) r
        ) a
    ) d
    CROSS JOIN LATERAL (SELECT pg_column_size(t.context) + d.size <= p_hydration_bytes AS all_small) h;

    v_hinted := tasker.hint_watchers_v1(true);
END;
$$;

-- hydrate_step_v1: the context and all dependency results of one step, whatever their size.
CREATE OR REPLACE FUNCTION tasker.hydrate_step_v1(p_task uuid, p_step uuid)
RETURNS TABLE (context jsonb, dependencies jsonb)
LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT t.context, (
        SELECT coalesce(jsonb_object_agg(r.name, r.result), '{}')
        FROM tasker.ancestor_results_v1(s.task_uuid, s.ancestor_uuids, s.batch_step_uuid) r)
    FROM tasker.workflow_steps s
    CROSS JOIN LATERAL (SELECT t.context FROM tasker.tasks t WHERE t.task_uuid = s.task_uuid LIMIT 1) t
    WHERE s.task_uuid = p_task AND s.step_uuid = p_step;
END;
$$;
