-- Steps that decisions and batches add to a task while it runs. Names and edges are decided in the caller, which has
-- locked the tasks; here they become rows, before the expanding step is completed in the same transaction: its
-- completion frees them like any other child.

-- expand_tasks_v1: add_steps_v1 and its messages.
CREATE OR REPLACE FUNCTION tasker.expand_tasks_v1(
    p_environment text, p_steps jsonb, p_inputs jsonb, p_batch_limit integer) RETURNS boolean
LANGUAGE sql VOLATILE AS $$
    SELECT tasker.send_steps_v1(tasker.add_steps_v1(p_environment, p_steps, p_inputs, p_batch_limit))
$$;

-- add_steps_v1: add steps of planned templates to locked tasks, and enqueue those that wait for nothing.
-- p_steps: [{task_uuid, step_uuid, name, template_step_name, step_type, inputs, parents, edges, ancestors,
--            batch_step_uuid, batch_parallelism, batch_fail_fast}], where `edges` names the edge from each parent and
-- `inputs` is the place of the step's inputs in p_inputs, from 0; null means those of the plan. Parents may be among
-- the new steps. They are run as planned for the environment of their task, for p_environment if it knows of none. A task
-- that gets instances of a batch may from now on have p_batch_limit of them in flight. Returns what to send.
CREATE OR REPLACE FUNCTION tasker.add_steps_v1(
    p_environment text, p_steps jsonb, p_inputs jsonb, p_batch_limit integer) RETURNS tasker.outbox
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    v_now     timestamptz := tasker.now();
    v_changes tasker.task_change[];
    v_batched uuid[];
    v_added   integer;
BEGIN
    WITH wanted AS (
        SELECT * FROM jsonb_to_recordset(p_steps) AS r(
            task_uuid uuid, step_uuid uuid, name text, template_step_name text, step_type text, inputs integer,
            parents uuid[], edges text[], ancestors uuid[], batch_step_uuid uuid, batch_parallelism integer,
            batch_fail_fast boolean)
    ), added AS (
        INSERT INTO tasker.workflow_steps (
            task_uuid, step_uuid, name, template_step_name, step_type, handler, total_parents, unmet_parents,
            max_attempts, retryable, on_worker_lost, backoff, backoff_base_ms, max_backoff_ms, timeout_seconds,
            created_at, updated_at, ancestor_uuids, inputs, batch_step_uuid, batch_parallelism, batch_fail_fast)
        SELECT w.task_uuid, w.step_uuid, w.name, p.name, w.step_type, p.handler, cardinality(w.parents),
               cardinality(w.parents) - m.met, p.max_attempts, p.retryable, p.on_worker_lost, p.backoff,
               p.backoff_base_ms, p.max_backoff_ms, p.timeout_seconds, v_now, v_now, w.ancestors,
               coalesce(p_inputs -> w.inputs, p.inputs), w.batch_step_uuid, w.batch_parallelism, w.batch_fail_fast
        FROM wanted w
        CROSS JOIN LATERAL (
            SELECT t.template_digest, coalesce(t.environment, p_environment) AS environment
            FROM tasker.tasks t WHERE t.task_uuid = w.task_uuid LIMIT 1
        ) t
        CROSS JOIN LATERAL (
            SELECT p.* FROM (
                SELECT p.* FROM tasker.template_steps p
                WHERE p.template_digest = t.template_digest AND p.environment = t.environment
                OFFSET 0
            ) p
            WHERE p.name = w.template_step_name
            LIMIT 1
        ) p
        CROSS JOIN LATERAL (
            -- Parents that are being added with it are not there yet: they are unmet.
            SELECT count(*)::integer AS met FROM unnest(w.parents) AS parent(step_uuid)
            CROSS JOIN LATERAL (
                SELECT s.state FROM tasker.workflow_steps s
                WHERE s.task_uuid = w.task_uuid AND s.step_uuid = parent.step_uuid LIMIT 1
            ) s
            WHERE s.state IN ('complete', 'resolved_manually')
        ) m
        RETURNING task_uuid, batch_step_uuid
    ), joined AS (
        INSERT INTO tasker.workflow_step_edges (task_uuid, from_step_uuid, to_step_uuid, name)
        SELECT w.task_uuid, e.parent, w.step_uuid, e.name
        FROM wanted w CROSS JOIN LATERAL unnest(w.parents, w.edges) AS e(parent, name)
    )
    SELECT array_agg(ROW (c.task_uuid, c.total, 0, 0, 0, 0)::tasker.task_change), sum(c.total),
           array_agg(c.task_uuid) FILTER (WHERE c.batched)
    INTO v_changes, v_added, v_batched
    FROM (
        SELECT a.task_uuid, count(*) AS total, bool_or(a.batch_step_uuid IS NOT NULL) AS batched
        FROM added a GROUP BY a.task_uuid
    ) c;
    IF v_added IS DISTINCT FROM jsonb_array_length(p_steps) THEN
        RAISE EXCEPTION 'of % steps % could be added: a template is not planned for the environment of its task',
            jsonb_array_length(p_steps), coalesce(v_added, 0);
    END IF;

    UPDATE tasker.tasks t SET batch_limit = p_batch_limit WHERE t.task_uuid = ANY (v_batched);
    RETURN tasker.advance_tasks_v1(v_changes, NULL, NULL, true);
END;
$$;

-- task_steps_v2: the steps of locked tasks, as far as what to add depends on them.
CREATE OR REPLACE FUNCTION tasker.task_steps_v2(p_tasks uuid[])
RETURNS TABLE (
    task_uuid uuid, template_digest bytea, environment text, step_uuid uuid, name text, template_step_name text,
    state text, ancestor_uuids uuid[])
LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT w.task_uuid, t.template_digest::bytea, t.environment, s.step_uuid, s.name, s.template_step_name,
           s.state::text, s.ancestor_uuids
    FROM unnest(p_tasks) AS w(task_uuid)
    CROSS JOIN LATERAL (
        SELECT t.template_digest, t.environment FROM tasker.tasks t WHERE t.task_uuid = w.task_uuid LIMIT 1
    ) t
    CROSS JOIN LATERAL (
        SELECT s.* FROM tasker.workflow_steps s WHERE s.task_uuid = w.task_uuid ORDER BY s.step_uuid OFFSET 0
    ) s;
END;
$$;

-- task_steps_v1: the same for orchestrators that know of no environment but their own.
CREATE OR REPLACE FUNCTION tasker.task_steps_v1(p_tasks uuid[])
RETURNS TABLE (
    task_uuid uuid, template_digest bytea, step_uuid uuid, name text, template_step_name text, state text,
    ancestor_uuids uuid[])
LANGUAGE sql STABLE AS $$
    SELECT s.task_uuid, s.template_digest, s.step_uuid, s.name, s.template_step_name, s.state, s.ancestor_uuids
    FROM tasker.task_steps_v2(p_tasks) s
$$;
