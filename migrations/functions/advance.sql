-- How this function and those that lead to it keep their plans, whatever the statistics say (a fresh or fast-growing
-- table has none that are true): rows are found by key in a LATERAL subquery of their own, which LIMIT or a row lock
-- keeps whole, so that only the index plan exists; what was found and locked is updated by its ctid, which cannot move
-- while it is locked. Sequential and bitmap scans, hash and merge joins are off and plans generic, by settings of the
-- session that calls (persistence/connections.py): a function that sets them itself takes a tenth longer. A test reads
-- the plans.

-- advance_tasks_v1: the only place that makes the steps of existing tasks `enqueued`, and tasks `complete`.
-- Takes at least one change for each task, whose rows the caller has locked, and the steps that became satisfied.
-- Frees their children, enqueues what is ready, applies the counts, moves the task and sets its timer.
-- With p_survey it looks at every step of the tasks instead of at those children (expand, timers, operators,
-- reconciler); so it does where instances of batches are among the children, since others of them hold them back.
-- Returns what to send. A terminal task only has its counts kept: nothing is enqueued, nothing moves.
CREATE OR REPLACE FUNCTION tasker.advance_tasks_v1(
    p_changes         tasker.task_change[],
    p_satisfied_tasks uuid[],
    p_satisfied_steps uuid[],
    p_survey          boolean
) RETURNS tasker.outbox
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    v_now     timestamptz;
    v_due     timestamptz;
    v_rows    tid[];
    v_from    text[];
    v_met     integer[];
    v_ready   boolean[];
    v_queues  text[];
    v_batched boolean := false;
    v_outbox  tasker.outbox;
    v_moved   integer;
    v_blocked uuid[];
    v_done    boolean;
BEGIN
    IF NOT p_survey THEN
        SELECT array_agg(s.ctid), array_agg(s.state::text), array_agg(child.met),
               array_agg(t.queue IS NOT NULL AND s.state = 'pending' AND s.unmet_parents = child.met),
               array_agg(t.queue), coalesce(bool_or(s.batch_step_uuid IS NOT NULL), false)
        INTO v_rows, v_from, v_met, v_ready, v_queues, v_batched
        FROM (
            SELECT e.task_uuid, e.to_step_uuid, count(DISTINCT e.from_step_uuid)::integer AS met
            FROM unnest(p_satisfied_tasks, p_satisfied_steps) AS done(task_uuid, step_uuid)
            CROSS JOIN LATERAL (
                SELECT e.* FROM tasker.workflow_step_edges e
                WHERE e.task_uuid = done.task_uuid AND e.from_step_uuid = done.step_uuid
                OFFSET 0
            ) e
            GROUP BY e.task_uuid, e.to_step_uuid
            ORDER BY e.to_step_uuid
        ) child
        CROSS JOIN LATERAL (
            -- The queue of the task's steps; null when the task is over.
            SELECT CASE WHEN t.terminal_at IS NULL THEN (
                SELECT tasker.worker_queue_v1(ns.name, t.priority)
                FROM tasker.task_namespaces ns WHERE ns.namespace_id = t.namespace_id)
            END AS queue
            FROM tasker.tasks t WHERE t.task_uuid = child.task_uuid LIMIT 1
        ) t
        CROSS JOIN LATERAL (
            SELECT s.ctid, s.state, s.unmet_parents, s.batch_step_uuid FROM tasker.workflow_steps s
            WHERE s.task_uuid = child.task_uuid AND s.step_uuid = child.to_step_uuid
            FOR NO KEY UPDATE
        ) s;
    END IF;
    IF p_survey OR v_batched THEN
        IF p_satisfied_steps IS NOT NULL THEN
            v_done := tasker.meet_children_v1(p_satisfied_tasks, p_satisfied_steps);
        END IF;
        v_due := tasker.now();
        SELECT array_agg(s.ctid), array_agg(s.state::text), array_agg(0), array_agg(true), array_agg(t.queue)
        INTO v_rows, v_from, v_met, v_ready, v_queues
        FROM (
            SELECT s.task_uuid, s.step_uuid
            FROM (SELECT DISTINCT c.task_uuid FROM unnest(p_changes) AS c) c
            CROSS JOIN LATERAL (
                SELECT s.task_uuid, s.step_uuid FROM tasker.workflow_steps s
                WHERE s.task_uuid = c.task_uuid AND s.unmet_parents = 0 AND s.batch_step_uuid IS NULL
                  AND (s.state = 'pending' OR (s.state = 'waiting_for_retry' AND s.next_retry_at <= v_due))
                OFFSET 0
            ) s
            UNION ALL
            SELECT c.task_uuid, i.step_uuid
            FROM (SELECT DISTINCT c.task_uuid FROM unnest(p_changes) AS c) c
            CROSS JOIN LATERAL (
                SELECT t.batch_limit FROM tasker.tasks t WHERE t.task_uuid = c.task_uuid LIMIT 1
            ) t
            CROSS JOIN LATERAL tasker.free_instances_v1(c.task_uuid, t.batch_limit) AS i(step_uuid)
            WHERE t.batch_limit IS NOT NULL
            ORDER BY step_uuid
        ) candidate
        CROSS JOIN LATERAL (
            -- The queue of the task's steps; null when the task is over.
            SELECT CASE WHEN t.terminal_at IS NULL THEN (
                SELECT tasker.worker_queue_v1(ns.name, t.priority)
                FROM tasker.task_namespaces ns WHERE ns.namespace_id = t.namespace_id)
            END AS queue
            FROM tasker.tasks t WHERE t.task_uuid = candidate.task_uuid LIMIT 1
        ) t
        CROSS JOIN LATERAL (
            SELECT s.ctid, s.state FROM tasker.workflow_steps s
            WHERE s.task_uuid = candidate.task_uuid AND s.step_uuid = candidate.step_uuid
              AND s.unmet_parents = 0
              AND (s.state = 'pending' OR (s.state = 'waiting_for_retry' AND s.next_retry_at <= v_due))
            FOR NO KEY UPDATE
        ) s
        WHERE t.queue IS NOT NULL;
    END IF;

    v_now := tasker.now();
    WITH touched AS (
        UPDATE tasker.workflow_steps s
        SET unmet_parents = s.unmet_parents - w.met,
            state = CASE WHEN w.ready THEN 'enqueued' ELSE s.state END,
            sort_key = s.sort_key + w.ready::integer,
            next_retry_at = CASE WHEN w.ready THEN NULL ELSE s.next_retry_at END,
            updated_at = v_now
        FROM unnest(v_rows, v_from, v_met, v_ready, v_queues) AS w(ctid, from_state, met, ready, queue)
        WHERE s.ctid = w.ctid
        RETURNING s.task_uuid, s.step_uuid, s.sort_key, s.attempts, w.from_state, w.ready, w.queue
    ), enqueued AS (
        INSERT INTO tasker.workflow_step_transitions
               (task_uuid, step_uuid, sort_key, from_state, to_state, attempt, created_at)
        SELECT s.task_uuid, s.step_uuid, s.sort_key, s.from_state, 'enqueued', s.attempts, v_now
        FROM touched s WHERE s.ready
    ), counted AS (
        SELECT c.task_uuid, sum(c.total) AS total, sum(c.satisfied) AS satisfied, sum(c.failed) AS failed,
               sum(c.in_flight) AS in_flight, sum(c.backoff) AS backoff
        FROM (
            SELECT * FROM unnest(p_changes)
            UNION ALL
            SELECT e.task_uuid, 0, 0, 0, 1, -(e.from_state = 'waiting_for_retry')::integer
            FROM touched e WHERE e.ready
        ) c
        GROUP BY c.task_uuid
    ), evaluated AS (
        SELECT t.ctid, t.state AS from_state, n.*,
               CASE WHEN t.terminal_at IS NOT NULL THEN t.state
                    ELSE tasker.task_state_for_v1(n.total, n.satisfied, n.failed, n.in_flight, n.backoff)
               END AS to_state,
               CASE WHEN t.terminal_at IS NULL THEN least(
                    t.expires_at,
                    CASE WHEN n.backoff > 0 THEN (
                        SELECT min(s.next_retry_at) FROM tasker.workflow_steps s
                        -- Of those that were looked at and are due, instances of batches are left: others of them
                        -- hold them back, and free them.
                        WHERE s.task_uuid = t.task_uuid AND s.state = 'waiting_for_retry'
                          AND (v_due IS NULL OR s.next_retry_at > v_due)
                          AND s.ctid <> ALL (coalesce(v_rows, '{}')))
                    END)
               END AS wake_at
        FROM counted c
        CROSS JOIN LATERAL (SELECT t.ctid, t.* FROM tasker.tasks t WHERE t.task_uuid = c.task_uuid LIMIT 1) t
        CROSS JOIN LATERAL (
            SELECT (t.total_steps + c.total)::integer AS total,
                   (t.satisfied_steps + c.satisfied)::integer AS satisfied,
                   (t.failed_steps + c.failed)::integer AS failed,
                   (t.in_flight_steps + c.in_flight)::integer AS in_flight,
                   (t.backoff_steps + c.backoff)::integer AS backoff
        ) n
    ), moved AS (
        UPDATE tasker.tasks t
        SET total_steps = v.total, satisfied_steps = v.satisfied, failed_steps = v.failed,
            in_flight_steps = v.in_flight, backoff_steps = v.backoff,
            state = v.to_state,
            sort_key = t.sort_key + (v.to_state <> v.from_state)::integer,
            wake_at = CASE WHEN v.to_state <> 'complete' THEN v.wake_at END,
            completed_at = CASE WHEN v.to_state = 'complete' THEN coalesce(t.completed_at, v_now) END,
            terminal_at = CASE WHEN v.to_state = 'complete' THEN coalesce(t.terminal_at, v_now) ELSE t.terminal_at END,
            updated_at = v_now
        FROM evaluated v
        WHERE t.ctid = v.ctid
          AND (v.to_state, v.total, v.satisfied, v.failed, v.in_flight, v.backoff, v.wake_at) IS DISTINCT FROM
              (t.state, t.total_steps, t.satisfied_steps, t.failed_steps, t.in_flight_steps, t.backoff_steps, t.wake_at)
        RETURNING t.task_uuid, t.sort_key, v.from_state, v.to_state
    ), recorded AS (
        INSERT INTO tasker.task_transitions (task_uuid, sort_key, from_state, to_state, created_at)
        SELECT m.task_uuid, m.sort_key, m.from_state, m.to_state, v_now
        FROM moved m WHERE m.to_state <> m.from_state
        RETURNING task_uuid, to_state
    )
    SELECT array_agg(e.queue), array_agg(e.task_uuid), array_agg(e.step_uuid), (SELECT count(*) FROM recorded),
           (SELECT array_agg(r.task_uuid) FROM recorded r WHERE r.to_state = 'blocked_by_failures')
    INTO v_outbox.queues, v_outbox.tasks, v_outbox.steps, v_moved, v_blocked
    FROM touched e WHERE e.ready;

    IF v_blocked IS NOT NULL THEN
        v_done := tasker.tell_blocked_v1(v_blocked);
        v_done := tasker.add_blocked_entries_v1(v_blocked);
    END IF;
    v_done := tasker.hint_watchers_v1(v_moved = 0);
    RETURN v_outbox;
END;
$$;

-- tell_blocked_v1: have the log of whoever calls say which tasks failures have blocked, and which steps failed.
CREATE OR REPLACE FUNCTION tasker.tell_blocked_v1(p_tasks uuid[]) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_task record;
BEGIN
    FOR v_task IN
        SELECT t.task_uuid, named.namespace, named.name, failed.steps
        FROM unnest(p_tasks) AS w(task_uuid)
        CROSS JOIN LATERAL (
            SELECT t.task_uuid, t.named_task_uuid FROM tasker.tasks t WHERE t.task_uuid = w.task_uuid LIMIT 1
        ) t
        CROSS JOIN LATERAL tasker.task_name_v1(t.named_task_uuid) AS named
        CROSS JOIN LATERAL (
            SELECT array_agg(s.name ORDER BY s.name) AS steps FROM tasker.workflow_steps s
            WHERE s.task_uuid = t.task_uuid AND s.state = 'error'
        ) failed
    LOOP
        RAISE NOTICE 'task_blocked' USING SCHEMA = 'tasker', DETAIL = jsonb_build_object(
            'task_uuid', v_task.task_uuid, 'namespace', v_task.namespace, 'task_name', v_task.name,
            'failed_steps', v_task.steps);
    END LOOP;
    RETURN true;
END;
$$;

-- task_state_for_v1: the state of an open task, from its counts.
CREATE OR REPLACE FUNCTION tasker.task_state_for_v1(
    p_total integer, p_satisfied integer, p_failed integer, p_in_flight integer, p_backoff integer) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE
        WHEN p_in_flight > 0 THEN 'steps_in_process'
        WHEN p_satisfied = p_total THEN 'complete'
        WHEN p_backoff > 0 THEN 'waiting_for_retry'
        WHEN p_failed > 0 THEN 'blocked_by_failures'
        ELSE 'waiting_for_dependencies'
    END
$$;

-- meet_children_v1: tell the children of steps that became satisfied that they wait for one parent less, each.
CREATE OR REPLACE FUNCTION tasker.meet_children_v1(p_satisfied_tasks uuid[], p_satisfied_steps uuid[]) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_rows tid[];
    v_met  integer[];
BEGIN
    SELECT array_agg(s.ctid), array_agg(child.met) INTO v_rows, v_met
    FROM (
        SELECT e.task_uuid, e.to_step_uuid, count(DISTINCT e.from_step_uuid)::integer AS met
        FROM unnest(p_satisfied_tasks, p_satisfied_steps) AS done(task_uuid, step_uuid)
        CROSS JOIN LATERAL (
            SELECT e.* FROM tasker.workflow_step_edges e
            WHERE e.task_uuid = done.task_uuid AND e.from_step_uuid = done.step_uuid
            OFFSET 0
        ) e
        GROUP BY e.task_uuid, e.to_step_uuid
        ORDER BY e.to_step_uuid
    ) child
    CROSS JOIN LATERAL (
        SELECT s.ctid FROM tasker.workflow_steps s
        WHERE s.task_uuid = child.task_uuid AND s.step_uuid = child.to_step_uuid
        FOR NO KEY UPDATE
    ) s;
    UPDATE tasker.workflow_steps s SET unmet_parents = s.unmet_parents - w.met, updated_at = tasker.now()
    FROM unnest(v_rows, v_met) AS w(ctid, met)
    WHERE s.ctid = w.ctid;
    RETURN v_rows IS NOT NULL;
END;
$$;

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
