-- claim_steps_v1: claim up to p_limit steps from the given queues, in their order.
-- One transaction: pop messages, then claim_by_ids_v1. Popping is a statement of its own: inside the claim it
-- would see messages whose steps the claim cannot see yet, and lose them.
-- A step whose handler is not among p_handlers goes back with a growing delay (rolling deploys), unless it has
-- been refused for p_refusal_limit and no live worker offers it: then it is claimed to fail for good.
-- Queues of paused namespaces are left alone.
-- Returns the highest msg_id popped with each step, for the caller's low-water marks. p_only limits it to one message.
CREATE OR REPLACE FUNCTION tasker.claim_steps_v1(
    p_queues text[], p_low_waters bigint[], p_limit integer, p_worker uuid, p_token uuid, p_lease interval,
    p_handlers text[], p_refusal_limit interval, p_hydration_bytes integer, p_only bigint
) RETURNS TABLE (
    queue text, msg_id bigint,
    task_uuid uuid, step_uuid uuid, name text, template_step_name text, handler text, namespace text,
    template_digest bytea, correlation_id uuid, attempt integer, max_attempts integer, timeout_seconds integer,
    suspect boolean, inputs jsonb, checkpoint jsonb, context jsonb, dependencies jsonb, hydrated boolean)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    v_now      timestamptz := tasker.now();
    v_paused   text[] := tasker.paused_queues_v1();
    v_pop      text;
    v_messages jsonb[];
    v_top      bigint;
    v_tasks    uuid[];
    v_steps    uuid[];
    v_left     integer := p_limit;
    v_claimed  integer;
    v_hinted   boolean;
BEGIN
    FOR i IN 1 .. cardinality(p_queues) LOOP
        EXIT WHEN v_left <= 0;
        CONTINUE WHEN p_queues[i] = ANY (v_paused);
        v_pop := format('tasker.%I', 'pop_from_' || p_queues[i]);
        CONTINUE WHEN to_regproc(v_pop) IS NULL;

        EXECUTE 'SELECT p.messages, p.tasks, p.steps, p.top_msg_id FROM ' || v_pop || '($1, $2, $3, $4) p'
        INTO v_messages, v_tasks, v_steps, v_top
        USING v_now, v_left, coalesce(p_only - 1, p_low_waters[i]), coalesce(p_only, 9223372036854775807);
        CONTINUE WHEN v_messages IS NULL;
        RETURN QUERY
        SELECT p_queues[i], v_top, c.*
        FROM tasker.claim_by_ids_v1(v_tasks, v_steps, p_handlers, p_worker, p_token, p_lease, p_hydration_bytes) c;
        GET DIAGNOSTICS v_claimed = ROW_COUNT;
        v_left := v_left - v_claimed;
        CONTINUE WHEN v_claimed = cardinality(v_messages);

        v_messages := tasker.refuse_messages_v1(p_queues[i], v_messages, p_handlers, p_refusal_limit);
        CONTINUE WHEN v_messages IS NULL;
        SELECT array_agg((m ->> 'task_uuid')::uuid), array_agg((m ->> 'step_uuid')::uuid)
        INTO v_tasks, v_steps FROM unnest(v_messages) m;
        RETURN QUERY
        SELECT p_queues[i], v_top, c.*
        FROM tasker.claim_by_ids_v1(v_tasks, v_steps, NULL, p_worker, p_token, p_lease, p_hydration_bytes) c;
        GET DIAGNOSTICS v_claimed = ROW_COUNT;
        v_left := v_left - v_claimed;
    END LOOP;
    IF v_left < p_limit THEN
        v_hinted := tasker.hint_watchers_v1(true);
    END IF;
END;
$$;

-- claim_by_ids_v1: hand enqueued steps to a worker.
-- Takes the steps that are still `enqueued` and whose handler is among p_handlers (null: any), counts the attempt,
-- starts their lease under the worker's token and returns all a handler needs. Steps that moved on are left out:
-- their message is no longer needed. Context and dependency results that together take more than p_hydration_bytes
-- stay behind (`hydrated` is false then); hydrate_step_v1 fetches them outside this transaction. A `suspect` has lost so
-- many workers that it shall run alone: its lease says that it waits for that. The caller hints to watchers.
CREATE OR REPLACE FUNCTION tasker.claim_by_ids_v1(
    p_tasks uuid[], p_steps uuid[], p_handlers text[], p_worker uuid, p_token uuid, p_lease interval,
    p_hydration_bytes integer
) RETURNS TABLE (
    task_uuid uuid, step_uuid uuid, name text, template_step_name text, handler text, namespace text,
    template_digest bytea, correlation_id uuid, attempt integer, max_attempts integer, timeout_seconds integer,
    suspect boolean, inputs jsonb, checkpoint jsonb, context jsonb, dependencies jsonb, hydrated boolean)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    v_now        timestamptz;
    v_rows       tid[];
    v_may_repeat boolean;
    v_setting    text;
    v_tasks      uuid[];
    v_steps      uuid[];
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
    WITH claimed AS (
        UPDATE tasker.workflow_steps s
        SET state = 'in_progress', sort_key = s.sort_key + 1, attempts = s.attempts + 1,
            last_attempted_at = v_now, updated_at = v_now
        WHERE s.ctid = ANY (v_rows)
        RETURNING s.task_uuid, s.step_uuid, s.sort_key, s.attempts, s.losses
    ), leased AS (
        INSERT INTO tasker.step_leases (task_uuid, step_uuid, lease_token, worker_uuid, attempt, expires_at, company)
        SELECT c.task_uuid, c.step_uuid, p_token, p_worker, c.attempts, v_now + p_lease,
               CASE WHEN c.losses >= 2 THEN 'waiting' ELSE 'beside' END
        FROM claimed c
        ON CONFLICT (task_uuid, step_uuid) DO UPDATE
        SET lease_token = excluded.lease_token, worker_uuid = excluded.worker_uuid,
            attempt = excluded.attempt, expires_at = excluded.expires_at, company = excluded.company
    ), recorded AS (
        INSERT INTO tasker.workflow_step_transitions
               (task_uuid, step_uuid, sort_key, from_state, to_state, attempt, worker_uuid, created_at)
        SELECT c.task_uuid, c.step_uuid, c.sort_key, 'enqueued', 'in_progress', c.attempts, p_worker, v_now
        FROM claimed c
    )
    SELECT array_agg(c.task_uuid), array_agg(c.step_uuid) INTO v_tasks, v_steps FROM claimed c;

    RETURN QUERY SELECT * FROM tasker.read_claims_v1(v_tasks, v_steps, p_hydration_bytes);
END;
$$;

-- read_claims_v1: what the handlers of claimed steps need.
CREATE OR REPLACE FUNCTION tasker.read_claims_v1(p_tasks uuid[], p_steps uuid[], p_hydration_bytes integer)
RETURNS TABLE (
    task_uuid uuid, step_uuid uuid, name text, template_step_name text, handler text, namespace text,
    template_digest bytea, correlation_id uuid, attempt integer, max_attempts integer, timeout_seconds integer,
    suspect boolean, inputs jsonb, checkpoint jsonb, context jsonb, dependencies jsonb, hydrated boolean)
LANGUAGE sql STABLE AS $$
    SELECT c.task_uuid, c.step_uuid, c.name, c.template_step_name, c.handler,
           (SELECT ns.name FROM tasker.task_namespaces ns WHERE ns.namespace_id = t.namespace_id),
           t.template_digest::bytea,
           t.correlation_id, c.attempts, c.max_attempts, c.timeout_seconds, c.losses >= 2, c.inputs, c.checkpoint,
           CASE WHEN h.all_small THEN t.context END,
           CASE WHEN h.all_small THEN d.results ELSE '{}' END,
           h.all_small
    FROM unnest(p_tasks, p_steps) AS m(task_uuid, step_uuid)
    CROSS JOIN LATERAL (
        SELECT * FROM tasker.workflow_steps c
        WHERE c.task_uuid = m.task_uuid AND c.step_uuid = m.step_uuid LIMIT 1
    ) c
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
    CROSS JOIN LATERAL (SELECT pg_column_size(t.context) + d.size <= p_hydration_bytes AS all_small) h
$$;

-- ancestor_results_v1: the newest results of the steps that a step descends from, as far as they are complete.
-- An instance of a batch (p_batch: the step that split the work) has its own cursors in its inputs; those of the others
-- are left out of what it sees.
CREATE OR REPLACE FUNCTION tasker.ancestor_results_v1(p_task uuid, p_ancestors uuid[], p_batch uuid)
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

-- hydrate_step_v2: the context of one step, and the results that it sees unless they take more than p_most as text.
-- Returns how much they take, and of how many steps they are.
CREATE OR REPLACE FUNCTION tasker.hydrate_step_v2(p_task uuid, p_step uuid, p_most bigint)
RETURNS TABLE (context jsonb, dependencies jsonb, bytes bigint, steps integer)
LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT t.context,
           -- Beyond the limit nothing is put together: 256 MiB would be more than a jsonb can hold.
           CASE WHEN d.bytes <= p_most THEN (
               SELECT coalesce(jsonb_object_agg(r.name, r.result), '{}')
               FROM tasker.ancestor_results_v1(s.task_uuid, s.ancestor_uuids, s.batch_step_uuid) r) END,
           d.bytes, d.steps
    FROM tasker.workflow_steps s
    CROSS JOIN LATERAL (SELECT t.context FROM tasker.tasks t WHERE t.task_uuid = s.task_uuid LIMIT 1) t
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(octet_length(r.result::text)), 0)::bigint AS bytes, count(*)::integer AS steps
        FROM tasker.ancestor_results_v1(s.task_uuid, s.ancestor_uuids, s.batch_step_uuid) r
    ) d
    WHERE s.task_uuid = p_task AND s.step_uuid = p_step;
END;
$$;

-- refuse_messages_v1: put back the popped messages of steps that nobody has claimed, since the worker lacks their
-- handler, with a growing delay; return those that have been refused for too long with no live worker to take them.
-- Messages of unknown steps are dropped with a warning.
CREATE OR REPLACE FUNCTION tasker.refuse_messages_v1(
    p_queue text, p_messages jsonb[], p_handlers text[], p_refusal_limit interval) RETURNS jsonb[]
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_now      timestamptz := tasker.now();
    v_hopeless jsonb[];
    v_refused  jsonb[];
    v_message  jsonb;
    v_refusals integer;
    v_tasks    uuid[];
    v_steps    uuid[];
    v_done     boolean;
BEGIN
    SELECT array_agg((m ->> 'task_uuid')::uuid), array_agg((m ->> 'step_uuid')::uuid) INTO v_tasks, v_steps
    FROM unnest(p_messages) m;
    v_done := tasker.refuse_nameless_v1(v_tasks, v_steps);
    v_done := tasker.warn_of_unknown_v1(p_queue, v_tasks, v_steps);

    WITH popped AS (
        -- The limit counts from when a live worker offered the handler last.
        SELECT CASE WHEN o.offered THEN m.message - 'refused_since' ELSE m.message END AS message,
               coalesce((m.message ->> 'refused_since')::timestamptz, v_now) <= v_now - p_refusal_limit
               AND NOT o.offered AS hopeless
        FROM unnest(p_messages) AS m(message)
        CROSS JOIN LATERAL (
            SELECT s.task_uuid, s.handler, s.state FROM tasker.workflow_steps s
            WHERE s.task_uuid = (m.message ->> 'task_uuid')::uuid AND s.step_uuid = (m.message ->> 'step_uuid')::uuid
            LIMIT 1
        ) s
        CROSS JOIN LATERAL (SELECT tasker.handler_offered_v1(s.task_uuid, s.handler) AS offered OFFSET 0) o
        WHERE s.state = 'enqueued' AND s.handler <> ALL (p_handlers)
    )
    SELECT array_agg(p.message) FILTER (WHERE p.hopeless), array_agg(p.message) FILTER (WHERE NOT p.hopeless)
    INTO v_hopeless, v_refused
    FROM popped p;

    -- Rare, and each message has a delay of its own: 1 s, doubled with every refusal, at most 30 s.
    FOREACH v_message IN ARRAY coalesce(v_refused, '{}') LOOP
        v_refusals := coalesce((v_message ->> 'refusals')::integer, 0);
        EXECUTE format('INSERT INTO pgmq.%I (vt, message) VALUES ($1, $2)', 'q_' || p_queue)
        USING v_now + make_interval(secs => least(30, 2 ^ least(v_refusals, 5))),
              v_message || jsonb_build_object('refusals', v_refusals + 1,
                                              'refused_since', coalesce(v_message ->> 'refused_since', v_now::text));
    END LOOP;
    RETURN v_hopeless;
END;
$$;

-- handler_offered_v1: whether a live worker that serves a task's namespace offers a handler.
CREATE OR REPLACE FUNCTION tasker.handler_offered_v1(p_task uuid, p_handler text) RETURNS boolean
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN EXISTS (
        SELECT FROM tasker.workers w
        WHERE w.stopped_at IS NULL AND w.heartbeat_at > tasker.now() - interval '90 seconds'
          AND p_handler = ANY (w.handlers)
          AND (SELECT ns.name FROM tasker.tasks t JOIN tasker.task_namespaces ns USING (namespace_id)
               WHERE t.task_uuid = p_task) = ANY (w.namespaces));
END;
$$;
