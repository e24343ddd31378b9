-- create_tasks_v1: insert_tasks_v1 and its messages in one transaction. Returns one row a task: when it was
-- created and started or, if it was refused, the task that already has its identity; neither if its version is not in
-- use any more.
CREATE OR REPLACE FUNCTION tasker.create_tasks_v1(p_environment text, p_tasks jsonb, p_contexts jsonb)
RETURNS TABLE (task_uuid uuid, existing_uuid uuid, created_at timestamptz, updated_at timestamptz)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    v_created record;
    v_sent    boolean;
BEGIN
    v_created := tasker.insert_tasks_v1(p_environment, p_tasks, p_contexts);
    v_sent := tasker.send_steps_v1(ROW (v_created.queues, v_created.tasks, v_created.steps)::tasker.outbox);

    RETURN QUERY
    SELECT r.task_uuid, v_created.existing[array_position(v_created.refused, r.task_uuid)], t.created_at, t.updated_at
    FROM jsonb_to_recordset(p_tasks) AS r(task_uuid uuid)
    LEFT JOIN LATERAL (
        SELECT t.created_at, t.updated_at FROM tasker.tasks t WHERE t.task_uuid = r.task_uuid LIMIT 1
    ) t ON true;
END;
$$;

-- insert_tasks_v1: create tasks with the initial steps of their planned templates, in one statement each. As
-- advance_tasks_v1 would leave them: those that wait for nothing are enqueued, and the task is in process.
-- p_tasks is an array of objects, one a task; `context` is its place in p_contexts, from 0, `step_uuids` holds an id
-- for every planned position, `ttl` is null for tasks that never expire. Whatever steps they get later, they keep to the
-- plans for p_environment.
-- Identities go first and in order, so that two groups that share one wait instead of deadlocking; the
-- constraint decides who wins; of equal ones in a group it is the first. Versions that are deactivated are refused.
-- Returns what to send, the refused tasks and those that have their identities (none for a deactivated version).
CREATE OR REPLACE FUNCTION tasker.insert_tasks_v1(
    p_environment text, p_tasks jsonb, p_contexts jsonb,
    OUT queues text[], OUT tasks uuid[], OUT steps uuid[], OUT refused uuid[], OUT existing uuid[])
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    v_now      timestamptz;
    v_inactive uuid[] := '{}';
    v_soon     boolean;
    v_done     boolean;
BEGIN
    IF EXISTS (SELECT FROM tasker.named_tasks n WHERE NOT n.active) THEN
        SELECT coalesce(array_agg(r.task_uuid), '{}') INTO v_inactive
        FROM jsonb_to_recordset(p_tasks) AS r(task_uuid uuid, named_task_uuid uuid)
        CROSS JOIN LATERAL (
            SELECT n.active FROM tasker.named_tasks n WHERE n.named_task_uuid = r.named_task_uuid LIMIT 1
        ) n
        WHERE NOT n.active;
    END IF;

    v_now := tasker.now();
    INSERT INTO tasker.task_identities (identity_hash, task_uuid, created_at)
    SELECT decode(r.identity, 'hex'), r.task_uuid, v_now
    FROM jsonb_to_recordset(p_tasks) AS r(task_uuid uuid, identity text)
    WHERE r.identity IS NOT NULL AND r.task_uuid <> ALL (v_inactive)
    ORDER BY r.identity, r.task_uuid
    ON CONFLICT DO NOTHING;

    SELECT array_agg(r.task_uuid), array_agg(i.task_uuid) INTO refused, existing
    FROM jsonb_to_recordset(p_tasks) AS r(task_uuid uuid, identity text)
    CROSS JOIN LATERAL (
        SELECT i.task_uuid FROM tasker.task_identities i WHERE i.identity_hash = decode(r.identity, 'hex') LIMIT 1
    ) i
    WHERE i.task_uuid <> r.task_uuid AND r.task_uuid <> ALL (v_inactive);
    IF v_inactive <> '{}' THEN
        refused := refused || v_inactive;
    END IF;

    v_now := tasker.now();
    WITH wanted AS MATERIALIZED (
        SELECT r.*, decode(r.template_digest, 'hex') AS digest FROM jsonb_to_recordset(p_tasks) AS r(
            task_uuid uuid, namespace_id integer, named_task_uuid uuid, template_digest text, priority smallint,
            correlation_id uuid, parent_correlation_id uuid, initiator text, source_system text, reason text,
            tags text[], context integer, ttl interval, step_uuids uuid[])
        WHERE refused IS NULL OR r.task_uuid <> ALL (refused)
    ), planned AS MATERIALIZED (
        SELECT w.task_uuid, w.step_uuids[p.position + 1] AS step_uuid, w.step_uuids,
               p.name, p.step_type, p.handler, p.inputs, p.retryable, p.max_attempts, p.backoff,
               p.backoff_base_ms, p.max_backoff_ms, p.timeout_seconds, p.on_worker_lost, p.parents, p.ancestors,
               cardinality(p.parents) AS total_parents, (p.parents = '{}')::integer AS ready
        FROM wanted w
        CROSS JOIN LATERAL (
            SELECT * FROM tasker.template_steps p
            WHERE p.template_digest = w.digest AND p.environment = p_environment AND p.initial
            OFFSET 0
        ) p
    ), created AS (
        INSERT INTO tasker.tasks (
            task_uuid, namespace_id, named_task_uuid, template_digest, state, sort_key, priority, total_steps,
            in_flight_steps, correlation_id, parent_correlation_id, initiator, source_system, reason, tags, context,
            ttl, expires_at, wake_at, requested_at, created_at, updated_at, environment)
        SELECT w.task_uuid, w.namespace_id, w.named_task_uuid, w.digest, 'steps_in_process', 1, w.priority,
               n.total, n.ready, w.correlation_id, w.parent_correlation_id, w.initiator, w.source_system, w.reason,
               w.tags, p_contexts -> w.context, w.ttl, v_now + w.ttl, v_now + w.ttl, v_now, v_now, v_now,
               p_environment
        FROM wanted w
        CROSS JOIN LATERAL (
            SELECT count(*) AS total, sum(p.ready) AS ready FROM planned p WHERE p.task_uuid = w.task_uuid
        ) n
    ), started AS (
        INSERT INTO tasker.task_transitions (task_uuid, sort_key, from_state, to_state, created_at)
        SELECT w.task_uuid, 1, 'pending', 'steps_in_process', v_now FROM wanted w
    ), stepped AS (
        INSERT INTO tasker.workflow_steps (
            task_uuid, step_uuid, name, template_step_name, step_type, handler, state, sort_key, total_parents,
            unmet_parents, max_attempts, retryable, on_worker_lost, backoff, backoff_base_ms, max_backoff_ms,
            timeout_seconds, created_at, updated_at, ancestor_uuids, inputs)
        SELECT p.task_uuid, p.step_uuid, p.name, p.name, p.step_type, p.handler,
               CASE p.ready WHEN 1 THEN 'enqueued' ELSE 'pending' END, p.ready, p.total_parents, p.total_parents,
               p.max_attempts, p.retryable, p.on_worker_lost, p.backoff, p.backoff_base_ms, p.max_backoff_ms,
               p.timeout_seconds, v_now, v_now, ARRAY(SELECT p.step_uuids[a + 1] FROM unnest(p.ancestors) a), p.inputs
        FROM planned p
    ), joined AS (
        INSERT INTO tasker.workflow_step_edges (task_uuid, from_step_uuid, to_step_uuid)
        SELECT p.task_uuid, p.step_uuids[parent + 1], p.step_uuid
        FROM planned p CROSS JOIN LATERAL unnest(p.parents) parent
    ), enqueued AS (
        INSERT INTO tasker.workflow_step_transitions
               (task_uuid, step_uuid, sort_key, from_state, to_state, attempt, created_at)
        SELECT p.task_uuid, p.step_uuid, 1, 'pending', 'enqueued', 0, v_now FROM planned p WHERE p.ready = 1
    )
    SELECT array_agg(q.queue), array_agg(q.task_uuid), array_agg(p.step_uuid),
           bool_or(q.ttl < interval '10 seconds')
    INTO queues, tasks, steps, v_soon
    FROM (
        SELECT w.task_uuid, w.ttl, tasker.worker_queue_v1(
            (SELECT ns.name FROM tasker.task_namespaces ns WHERE ns.namespace_id = w.namespace_id),
            w.priority) AS queue
        FROM wanted w
    ) q
    CROSS JOIN LATERAL (SELECT p.step_uuid FROM planned p WHERE p.task_uuid = q.task_uuid AND p.ready = 1) p;

    -- Later ones are found in time by the timer loop's poll, which comes more often than that.
    IF v_soon THEN
        v_done := tasker.hint_v1('tasker_timer');
    END IF;
    v_done := tasker.hint_watchers_v1(false);
END;
$$;
