-- phase: pre
-- Expiry: a task may take only so long (key `ttl` of its template). The one timer looks at it then and cancels it with
-- all its steps, blocked or not; what was over by then stays as it is.

-- `expires_at` is this long after the task's creation. A task that an operator resumes from `error` gets all of it
-- again: that somebody acts on it says that its outcome is still wanted.
ALTER TABLE tasker.tasks ADD COLUMN ttl interval;

-- insert_tasks_v1: create tasks with the initial steps of their planned templates, in one statement each.
-- p_tasks is an array of objects, one a task; `step_uuids` holds an id for every planned position, `ttl` is null for
-- tasks that never expire.
-- Identities go first and in order, so that two batches that share one wait instead of deadlocking; the
-- constraint decides who wins. Returns what to send, the refused tasks and those that have their identities.
CREATE OR REPLACE FUNCTION tasker.insert_tasks_v1(
    p_environment text, p_tasks jsonb,
    OUT queues text[], OUT tasks uuid[], OUT steps uuid[], OUT refused uuid[], OUT existing uuid[])
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    v_now      timestamptz;
    v_changes  tasker.task_change[];
    v_soon     boolean;
    v_outbox   tasker.outbox;
    v_hinted   boolean;
BEGIN
    v_now := tasker.now();
    INSERT INTO tasker.task_identities (identity_hash, task_uuid, created_at)
    SELECT decode(r.identity, 'hex'), r.task_uuid, v_now
    FROM jsonb_to_recordset(p_tasks) AS r(task_uuid uuid, identity text)
    WHERE r.identity IS NOT NULL
    ORDER BY r.identity
    ON CONFLICT DO NOTHING;

    SELECT array_agg(r.task_uuid), array_agg(i.task_uuid) INTO refused, existing
    FROM jsonb_to_recordset(p_tasks) AS r(task_uuid uuid, identity text)
    CROSS JOIN LATERAL (
        SELECT i.task_uuid FROM tasker.task_identities i WHERE i.identity_hash = decode(r.identity, 'hex') LIMIT 1
    ) i
    WHERE i.task_uuid <> r.task_uuid;

    v_now := tasker.now();
    WITH wanted AS (
        SELECT * FROM jsonb_to_recordset(p_tasks) AS r(
            task_uuid uuid, namespace_id integer, named_task_uuid uuid, template_digest text, priority smallint,
            correlation_id uuid, parent_correlation_id uuid, initiator text, source_system text, reason text,
            tags text[], context jsonb, ttl interval, step_uuids uuid[])
        WHERE refused IS NULL OR r.task_uuid <> ALL (refused)
    ), created AS (
        INSERT INTO tasker.tasks (
            task_uuid, namespace_id, named_task_uuid, template_digest, priority, correlation_id,
            parent_correlation_id, initiator, source_system, reason, tags, context, ttl, expires_at,
            requested_at, created_at, updated_at)
        SELECT w.task_uuid, w.namespace_id, w.named_task_uuid, decode(w.template_digest, 'hex'), w.priority,
               w.correlation_id, w.parent_correlation_id, w.initiator, w.source_system, w.reason, w.tags,
               w.context, w.ttl, v_now + w.ttl, v_now, v_now, v_now
        FROM wanted w
    ), planned AS (
        SELECT w.task_uuid, w.step_uuids[p.position + 1] AS step_uuid, w.step_uuids,
               p.name, p.step_type, p.handler, p.inputs, p.retryable, p.max_attempts, p.backoff,
               p.backoff_base_ms, p.max_backoff_ms, p.timeout_seconds, p.on_worker_lost, p.parents, p.ancestors
        FROM wanted w
        CROSS JOIN LATERAL (
            SELECT * FROM tasker.template_steps p
            WHERE p.template_digest = decode(w.template_digest, 'hex') AND p.environment = p_environment AND p.initial
            OFFSET 0
        ) p
    ), stepped AS (
        INSERT INTO tasker.workflow_steps (
            task_uuid, step_uuid, name, template_step_name, step_type, handler, total_parents, unmet_parents,
            max_attempts, retryable, on_worker_lost, backoff, backoff_base_ms, max_backoff_ms, timeout_seconds,
            created_at, updated_at, ancestor_uuids, inputs)
        SELECT p.task_uuid, p.step_uuid, p.name, p.name, p.step_type, p.handler,
               cardinality(p.parents), cardinality(p.parents), p.max_attempts, p.retryable, p.on_worker_lost,
               p.backoff, p.backoff_base_ms, p.max_backoff_ms, p.timeout_seconds, v_now, v_now,
               ARRAY(SELECT p.step_uuids[a + 1] FROM unnest(p.ancestors) a), p.inputs
        FROM planned p
        RETURNING task_uuid
    ), joined AS (
        INSERT INTO tasker.workflow_step_edges (task_uuid, from_step_uuid, to_step_uuid)
        SELECT p.task_uuid, p.step_uuids[parent + 1], p.step_uuid
        FROM planned p CROSS JOIN LATERAL unnest(p.parents) parent
    )
    SELECT array_agg(ROW (c.task_uuid, c.total, 0, 0, 0, 0)::tasker.task_change),
           (SELECT bool_or(w.ttl < interval '10 seconds') FROM wanted w)
    INTO v_changes, v_soon
    FROM (SELECT s.task_uuid, count(*) AS total FROM stepped s GROUP BY s.task_uuid) c;

    -- Later ones are found in time by the timer loop's poll, which comes more often than that.
    IF v_soon THEN
        v_hinted := tasker.hint_v1('tasker_timer');
    END IF;
    v_outbox := tasker.advance_tasks_v1(v_changes, NULL, NULL, true);
    queues := v_outbox.queues;
    tasks := v_outbox.tasks;
    steps := v_outbox.steps;
END;
$$;

-- cancel_tasks_v1: cancel open tasks that the caller has locked, and every step of them that is not over.
-- Handlers that run are not waited for: their leases end, and their results come too late.
CREATE FUNCTION tasker.cancel_tasks_v1(p_tasks uuid[], p_metadata jsonb) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    v_now    timestamptz;
    v_rows   tid[];
    v_states text[];
BEGIN
    SELECT array_agg(s.ctid), array_agg(s.state::text) INTO v_rows, v_states
    FROM (
        SELECT s.task_uuid, s.step_uuid FROM unnest(p_tasks) AS w(task_uuid)
        CROSS JOIN LATERAL (
            -- Ordered, so that the planner takes the primary key and no index that has the task second.
            SELECT s.task_uuid, s.step_uuid FROM tasker.workflow_steps s
            WHERE s.task_uuid = w.task_uuid AND s.state NOT IN ('complete', 'cancelled', 'resolved_manually')
            ORDER BY s.step_uuid OFFSET 0
        ) s
        ORDER BY s.step_uuid
    ) unfinished
    CROSS JOIN LATERAL (
        SELECT s.ctid, s.state FROM tasker.workflow_steps s
        WHERE s.task_uuid = unfinished.task_uuid AND s.step_uuid = unfinished.step_uuid
        FOR NO KEY UPDATE
    ) s;
    DELETE FROM tasker.step_leases l WHERE l.task_uuid = ANY (p_tasks);

    v_now := tasker.now();
    WITH cancelled AS (
        UPDATE tasker.workflow_steps s
        SET state = 'cancelled', sort_key = s.sort_key + 1, next_retry_at = NULL, updated_at = v_now,
            completed_at = v_now
        FROM unnest(v_rows, v_states) AS w(ctid, from_state)
        WHERE s.ctid = w.ctid
        RETURNING s.task_uuid, s.step_uuid, s.sort_key, s.attempts, w.from_state
    )
    INSERT INTO tasker.workflow_step_transitions
           (task_uuid, step_uuid, sort_key, from_state, to_state, attempt, metadata, created_at)
    SELECT c.task_uuid, c.step_uuid, c.sort_key, c.from_state, 'cancelled', c.attempts, p_metadata, v_now
    FROM cancelled c;

    WITH cancelled AS (
        UPDATE tasker.tasks t
        SET state = 'cancelled', sort_key = t.sort_key + 1, terminal_at = v_now, wake_at = NULL, updated_at = v_now,
            failed_steps = 0, in_flight_steps = 0, backoff_steps = 0
        FROM (
            SELECT t.ctid, t.state FROM unnest(p_tasks) AS w(task_uuid)
            CROSS JOIN LATERAL (
                SELECT t.ctid, t.state FROM tasker.tasks t WHERE t.task_uuid = w.task_uuid LIMIT 1
            ) t
        ) w
        WHERE t.ctid = w.ctid
        RETURNING t.task_uuid, t.sort_key, w.state AS from_state
    )
    INSERT INTO tasker.task_transitions (task_uuid, sort_key, from_state, to_state, metadata, created_at)
    SELECT c.task_uuid, c.sort_key, c.from_state, 'cancelled', p_metadata, v_now
    FROM cancelled c;
    RETURN tasker.hint_watchers_v1(false);
END;
$$;

-- cancel_task_v1: cancel an open task. Returns the state it was in, null when there is no such task; `cancelled` tells
-- whether that was now: a task that is over stays as it is.
CREATE OR REPLACE FUNCTION tasker.cancel_task_v1(
    p_task uuid, p_metadata jsonb, OUT from_state text, OUT cancelled boolean)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_hinted boolean;
BEGIN
    SELECT t.state, t.terminal_at IS NULL INTO from_state, cancelled
    FROM tasker.tasks t WHERE t.task_uuid = p_task
    FOR NO KEY UPDATE;
    cancelled := coalesce(cancelled, false);
    IF cancelled THEN
        v_hinted := tasker.cancel_tasks_v1(ARRAY[p_task], p_metadata);
    END IF;
END;
$$;

-- wake_tasks_v2: look at up to p_limit tasks whose timer is due: cancel those that have expired, advance the others.
-- One that somebody else holds is left for a later call; what its holder made of it counts, so of an expiry and a last
-- result exactly one wins. Returns how many it took, which of them it cancelled, and in how many milliseconds the next
-- timer is due (null: none is set).
CREATE FUNCTION tasker.wake_tasks_v2(p_limit integer)
RETURNS TABLE (woken integer, next_due_ms double precision, expired uuid[])
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    v_now     timestamptz := tasker.now();
    v_changes tasker.task_change[];
    v_expired uuid[];
    v_done    boolean;
BEGIN
    SELECT count(*),
           array_agg(ROW (l.task_uuid, 0, 0, 0, 0, 0)::tasker.task_change) FILTER (WHERE NOT l.has_expired),
           array_agg(l.task_uuid) FILTER (WHERE l.has_expired)
    INTO woken, v_changes, v_expired
    FROM (
        SELECT t.task_uuid, t.terminal_at IS NULL AND coalesce(t.expires_at <= v_now, false) AS has_expired
        FROM tasker.tasks t
        WHERE t.wake_at <= v_now
        ORDER BY t.wake_at LIMIT p_limit
        FOR NO KEY UPDATE SKIP LOCKED
    ) l;
    expired := coalesce(v_expired, '{}');

    IF v_expired IS NOT NULL THEN
        v_done := tasker.cancel_tasks_v1(v_expired, '{"event": "cancel", "reason": "ttl_expired"}');
    END IF;
    IF v_changes IS NOT NULL THEN
        v_done := tasker.send_steps_v1(tasker.advance_tasks_v1(v_changes, NULL, NULL, true));
    END IF;

    -- Not greatest(0, …), which makes nothing of null: that would be a timer due at once.
    SELECT extract(epoch FROM min(t.wake_at) - tasker.now()) * 1000 INTO next_due_ms
    FROM tasker.tasks t WHERE t.wake_at IS NOT NULL;
    RETURN NEXT;
END;
$$;

-- wake_tasks_v1: the same for orchestrators that have not heard of expiry: their timer loop must do it all the same.
CREATE OR REPLACE FUNCTION tasker.wake_tasks_v1(p_limit integer)
RETURNS TABLE (woken integer, next_due_ms double precision)
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN QUERY SELECT w.woken, w.next_due_ms FROM tasker.wake_tasks_v2(p_limit) w;
END;
$$;
