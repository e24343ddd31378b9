-- phase: pre
-- What is not kept for ever, and what is kept for people: old tasks, and messages that nobody could handle.

-- An identity is found by its task when that goes. Task uuids grow, so an insert costs next to nothing.
CREATE INDEX task_identities_task_idx ON tasker.task_identities (task_uuid);
CREATE INDEX poison_messages_task_idx ON tasker.poison_messages (task_uuid);
CREATE INDEX poison_messages_recorded_idx ON tasker.poison_messages (recorded_at);

-- least_uuid_v1: what is made at an instant or later has a UUIDv7 that is not less.
CREATE FUNCTION tasker.least_uuid_v1(p_at timestamptz) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT (lpad(to_hex(greatest(0, extract(epoch FROM p_at) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;

-- delete_old_tasks_v1: look at up to p_limit tasks behind p_after and delete those that ended p_age ago or more, with
-- everything that hangs on them. A task with a pending investigation stays, and one that somebody holds is left for
-- the next walk.
-- Callers walk the tasks from the oldest on, which their uuids put in order of time: no index by the time of their end
-- is needed, which every task would pay for when it ends, and no walk reads a task younger than p_age. What is kept
-- of the old ones is read again in each walk.
-- Returns the last task looked at, null when none is left that may be old enough, and how many rows of each table went.
CREATE FUNCTION tasker.delete_old_tasks_v1(
    p_limit integer, p_age interval, p_after uuid, OUT last_uuid uuid, OUT deleted jsonb)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    v_cutoff CONSTANT timestamptz := tasker.now() - p_age;
    -- What was made after the cutoff cannot have ended before it.
    v_below  CONSTANT uuid := tasker.least_uuid_v1(v_cutoff);
    v_seen   uuid[];
    v_tasks  uuid[];
    v_rows   tid[];
    v_table  text;
    v_count  bigint;
BEGIN
    deleted := '{}';
    SELECT array_agg(t.task_uuid), array_agg(t.task_uuid) FILTER (WHERE t.terminal_at <= v_cutoff)
    INTO v_seen, v_tasks
    FROM (
        SELECT t.task_uuid, t.terminal_at FROM tasker.tasks t
        WHERE t.task_uuid > p_after AND t.task_uuid < v_below
        ORDER BY t.task_uuid LIMIT p_limit
    ) t;
    IF cardinality(v_seen) = p_limit THEN
        last_uuid := v_seen[p_limit];
    END IF;

    v_tasks := tasker.without_investigation_v1(v_tasks);
    SELECT array_agg(t.task_uuid) INTO v_tasks
    FROM unnest(v_tasks) AS w(task_uuid)
    CROSS JOIN LATERAL (
        SELECT t.task_uuid FROM tasker.tasks t WHERE t.task_uuid = w.task_uuid AND t.terminal_at <= v_cutoff
        FOR UPDATE SKIP LOCKED
    ) t;
    -- Again, now that nobody can begin one.
    v_tasks := tasker.without_investigation_v1(v_tasks);
    IF v_tasks IS NULL THEN
        RETURN;
    END IF;

    -- A late message may still lead a worker to a step, but to none that is locked here.
    SELECT array_agg(s.ctid) INTO v_rows
    FROM (
        SELECT s.task_uuid, s.step_uuid FROM unnest(v_tasks) AS w(task_uuid)
        CROSS JOIN LATERAL (
            -- Ordered, so that the planner takes the primary key and no index that has the task second.
            SELECT s.task_uuid, s.step_uuid FROM tasker.workflow_steps s
            WHERE s.task_uuid = w.task_uuid
            ORDER BY s.step_uuid OFFSET 0
        ) s
        ORDER BY s.step_uuid
    ) gone
    CROSS JOIN LATERAL (
        SELECT s.ctid FROM tasker.workflow_steps s
        WHERE s.task_uuid = gone.task_uuid AND s.step_uuid = gone.step_uuid
        FOR UPDATE
    ) s;
    DELETE FROM tasker.workflow_steps s WHERE s.ctid = ANY (v_rows);
    GET DIAGNOSTICS v_count = ROW_COUNT;
    deleted := jsonb_build_object('workflow_steps', v_count);

    FOREACH v_table IN ARRAY ARRAY[
        'step_leases', 'step_results', 'workflow_step_transitions', 'workflow_step_edges', 'task_transitions',
        'task_identities', 'tasks_dlq', 'poison_messages', 'tasks']
    LOOP
        EXECUTE format('DELETE FROM tasker.%I d WHERE d.task_uuid = ANY ($1)', v_table) USING v_tasks;
        GET DIAGNOSTICS v_count = ROW_COUNT;
        deleted := deleted || jsonb_build_object(v_table, v_count);
    END LOOP;
END;
$$;

-- without_investigation_v1: those of the tasks that have no pending entry; null when none is left.
CREATE FUNCTION tasker.without_investigation_v1(p_tasks uuid[]) RETURNS uuid[]
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN (
        SELECT array_agg(w.task_uuid) FROM unnest(p_tasks) AS w(task_uuid)
        LEFT JOIN LATERAL (
            SELECT true AS pending FROM tasker.tasks_dlq d
            WHERE d.task_uuid = w.task_uuid AND d.resolution_status = 'pending' LIMIT 1
        ) d ON true
        WHERE d.pending IS NULL);
END;
$$;

-- delete_old_poison_v1: delete up to p_limit poison records of p_age or more whose task is gone or unknown. The others
-- go with their task. Returns how many.
CREATE FUNCTION tasker.delete_old_poison_v1(p_limit integer, p_age interval) RETURNS integer
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_cutoff CONSTANT timestamptz := tasker.now() - p_age;
    v_count  integer;
BEGIN
    DELETE FROM tasker.poison_messages p WHERE p.ctid = ANY (ARRAY(
        SELECT p.ctid FROM tasker.poison_messages p
        LEFT JOIN LATERAL (
            SELECT true AS there FROM tasker.tasks t WHERE t.task_uuid = p.task_uuid LIMIT 1
        ) t ON true
        WHERE p.recorded_at <= v_cutoff AND t.there IS NULL
        ORDER BY p.recorded_at LIMIT p_limit
        FOR UPDATE OF p SKIP LOCKED));
    GET DIAGNOSTICS v_count = ROW_COUNT;
    RETURN v_count;
END;
$$;

-- refuse_nameless_v1: fail over a message that does not name a task and a step, as over one whose uuids are garbled:
-- the search for poison then finds it and records it, and the others go on.
CREATE FUNCTION tasker.refuse_nameless_v1(p_tasks uuid[], p_steps uuid[]) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF array_position(p_tasks, NULL) IS NOT NULL OR array_position(p_steps, NULL) IS NOT NULL THEN
        RAISE EXCEPTION 'the message does not name a task and a step'
        USING ERRCODE = 'invalid_text_representation';
    END IF;
    RETURN true;
END;
$$;

-- warn_of_unknown_v1: warn the caller of messages that name a step nobody knows, such as one of a task that retention
-- has deleted. They are dropped: there is nothing that could hang because of them.
CREATE FUNCTION tasker.warn_of_unknown_v1(p_queue text, p_tasks uuid[], p_steps uuid[]) RETURNS boolean
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_unknown text;
BEGIN
    SELECT string_agg(format('task %s step %s', m.task_uuid, m.step_uuid), ', ') INTO v_unknown
    FROM unnest(p_tasks, p_steps) AS m(task_uuid, step_uuid)
    LEFT JOIN LATERAL (
        SELECT true AS there FROM tasker.workflow_steps s
        WHERE s.task_uuid = m.task_uuid AND s.step_uuid = m.step_uuid LIMIT 1
    ) s ON true
    WHERE s.there IS NULL;
    IF v_unknown IS NOT NULL THEN
        RAISE WARNING 'messages of queue % name steps that do not exist; they are dropped', p_queue
        USING DETAIL = v_unknown;
    END IF;
    RETURN v_unknown IS NOT NULL;
END;
$$;

-- hold_tasks_v1: lock the tasks of held messages that nobody else is evaluating.
-- One busy task never stalls a batch: its messages come back 50 ms later. Messages of unknown tasks are dropped with a
-- warning. Returns the tasks and steps of the other messages, whose tasks are now held and which are deleted with
-- this transaction; how many came back as busy; and the highest msg_id, for the caller's low-water mark.
CREATE OR REPLACE FUNCTION tasker.hold_tasks_v1(
    p_queue text, p_limit integer, p_low_water bigint, p_only bigint,
    OUT tasks uuid[], OUT steps uuid[], OUT busy integer, OUT top_msg_id bigint)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    v_messages record;
    v_msg_ids  bigint[];
    v_held     uuid[];
    v_distinct integer;
    v_busy     bigint[];
    v_done     boolean;
BEGIN
    busy := 0;
    v_messages := tasker.hold_messages_v1(p_queue, p_limit, p_low_water, p_only);
    v_msg_ids := v_messages.msg_ids;
    IF v_msg_ids IS NULL THEN
        RETURN;
    END IF;
    v_done := tasker.refuse_nameless_v1(v_messages.tasks, v_messages.steps);
    tasks := v_messages.tasks;
    steps := v_messages.steps;
    top_msg_id := v_msg_ids[cardinality(v_msg_ids)];  -- they come in order

    SELECT array_agg(t.task_uuid), count(*) INTO v_held, v_distinct
    FROM (SELECT DISTINCT m.task_uuid FROM unnest(tasks) AS m(task_uuid) ORDER BY m.task_uuid) m
    LEFT JOIN LATERAL (
        SELECT t.task_uuid FROM tasker.tasks t WHERE t.task_uuid = m.task_uuid
        FOR NO KEY UPDATE SKIP LOCKED
    ) t ON true;
    v_held := array_remove(v_held, NULL);

    -- Of plain successes, which are many, only an unknown task is noticed; an unknown step takes a look at each.
    IF cardinality(v_held) < v_distinct OR p_queue <> 'orchestration_step_results' THEN
        v_done := tasker.warn_of_unknown_v1(p_queue, tasks, steps);
    END IF;
    -- Seldom: some task is busy, or gone.
    IF cardinality(v_held) < v_distinct THEN
        SELECT array_agg(m.msg_id) INTO v_busy
        FROM unnest(v_msg_ids, tasks) AS m(msg_id, task_uuid)
        WHERE m.task_uuid <> ALL (v_held)
          AND EXISTS (SELECT FROM tasker.tasks t WHERE t.task_uuid = m.task_uuid);
        busy := coalesce(cardinality(v_busy), 0);
        IF busy > 0 THEN
            PERFORM tasker.delay_messages_v1(p_queue, v_busy, interval '50 milliseconds');
        END IF;
        SELECT array_agg(m.task_uuid) FILTER (WHERE m.task_uuid = ANY (v_held)),
               array_agg(m.step_uuid) FILTER (WHERE m.task_uuid = ANY (v_held)),
               array_agg(m.msg_id) FILTER (WHERE v_busy IS NULL OR m.msg_id <> ALL (v_busy))
        INTO tasks, steps, v_msg_ids
        FROM unnest(v_msg_ids, tasks, steps) AS m(msg_id, task_uuid, step_uuid);
    END IF;
    v_done := tasker.drop_messages_v1(p_queue, v_msg_ids);
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

-- visible_messages_v1: the ids of up to p_limit visible messages, oldest first, to be tried one by one. A queue that
-- nobody has used yet has none.
CREATE OR REPLACE FUNCTION tasker.visible_messages_v1(p_queue text, p_limit integer) RETURNS SETOF bigint
LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF to_regclass(format('pgmq.%I', 'q_' || p_queue)) IS NULL THEN
        RETURN;
    END IF;
    RETURN QUERY EXECUTE format(
        'SELECT m.msg_id FROM pgmq.%I m WHERE m.vt <= $1 ORDER BY m.msg_id LIMIT $2', 'q_' || p_queue)
    USING tasker.now(), p_limit;
END;
$$;
