-- task_staleness_v1: how long a task has been where it is, held against its limits. Monitoring, detection and the
-- check under the lock all ask this function and none other.
-- p_limits: minutes by state, `task_max_lifetime` and `checkpoint_stall` in minutes, `warning_percentage`
-- (tasker.domain.staleness). What the task's template says comes before the limits of its state and its lifetime.
-- The clock of waiting_for_retry starts when the earliest retry is due: waiting for it is what the task should do.
-- That of steps_in_process starts with the newest change of a step: a task whose steps move on stays in that state.
-- Its age alone does not make a task stale: one that moved within the last minute, or waits for a retry that is not due
-- yet, does what it should, however long a person took to repair it.
-- The percentage is that of whichever limit is nearer. A plain query, so that it becomes part of the one that asks.
CREATE OR REPLACE FUNCTION tasker.task_staleness_v1(p_task tasker.tasks, p_now timestamptz, p_limits jsonb)
RETURNS TABLE (
    since timestamptz, minutes_in_state double precision, age_minutes double precision, threshold_minutes integer,
    percentage double precision, minutes_until_stale double precision, health text, lifecycle jsonb)
LANGUAGE sql STABLE AS $$
    SELECT c.since, m.in_state, m.age, l.threshold, p.percentage,
           greatest(0, least(l.threshold - m.in_state, l.lifetime - m.age)),
           CASE WHEN p.percentage < w.percentage OR (m.in_state < 1 AND p.of_state < w.percentage) THEN 'healthy'
                WHEN (p_task).state = 'steps_in_process' AND tasker.task_busy_v1(
                    (p_task).task_uuid, p_now, make_interval(mins => (p_limits ->> 'checkpoint_stall')::integer))
                THEN 'healthy'
                WHEN p.percentage < 100 THEN 'warning'
                ELSE 'stale' END,
           r.lifecycle
    FROM (SELECT greatest(
              coalesce((SELECT x.created_at FROM tasker.task_transitions x
                        WHERE x.task_uuid = (p_task).task_uuid AND x.sort_key = (p_task).sort_key),
                       (p_task).created_at),
              CASE WHEN (p_task).state = 'waiting_for_retry' THEN (
                  SELECT min(s.next_retry_at)
                  FROM (SELECT * FROM tasker.workflow_steps s
                        WHERE s.task_uuid = (p_task).task_uuid AND s.state = 'waiting_for_retry'
                        ORDER BY s.step_uuid OFFSET 0) s)
                   WHEN (p_task).state = 'steps_in_process' THEN (
                  SELECT max(s.updated_at)
                  FROM (SELECT * FROM tasker.workflow_steps s
                        WHERE s.task_uuid = (p_task).task_uuid
                        ORDER BY s.step_uuid OFFSET 0) s)
              END) AS since
          OFFSET 0) c
    LEFT JOIN LATERAL (
        SELECT r.lifecycle FROM tasker.template_revisions r
        WHERE r.template_digest = (p_task).template_digest LIMIT 1
    ) r ON true
    CROSS JOIN LATERAL (
        SELECT greatest(0, extract(epoch FROM p_now - c.since) / 60)::double precision AS in_state,
               (extract(epoch FROM p_now - (p_task).created_at) / 60)::double precision AS age
        OFFSET 0
    ) m
    CROSS JOIN LATERAL (
        SELECT coalesce((r.lifecycle ->> ('max_' || (p_task).state || '_minutes'))::integer,
                        (p_limits ->> (p_task).state)::integer) AS threshold,
               coalesce((r.lifecycle ->> 'max_duration_minutes')::integer,
                        (p_limits ->> 'task_max_lifetime')::integer) AS lifetime
        OFFSET 0
    ) l
    CROSS JOIN LATERAL (
        -- A limit of 0 is reached at once.
        SELECT s.of_state, greatest(s.of_state, coalesce(100 * m.age / nullif(l.lifetime, 0), 100)) AS percentage
        FROM (SELECT coalesce(100 * m.in_state / nullif(l.threshold, 0), 100) AS of_state) s
        OFFSET 0
    ) p
    CROSS JOIN LATERAL (SELECT (p_limits ->> 'warning_percentage')::double precision AS percentage) w
$$;

-- task_busy_v1: whether somebody is at a task's steps or will be: a lease is alive, or ended less than a minute ago, so
-- that the sweeper may not have seen it; a step is queued for a worker; or every running instance of its batches has
-- yielded a checkpoint within p_stall. Such a task is not stuck.
CREATE OR REPLACE FUNCTION tasker.task_busy_v1(p_task uuid, p_now timestamptz, p_stall interval) RETURNS boolean
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN EXISTS (
        SELECT FROM tasker.step_leases l WHERE l.task_uuid = p_task AND l.expires_at > p_now - interval '1 minute'
    ) OR coalesce((
        SELECT bool_or(s.state = 'enqueued')
               OR bool_and(coalesce(tasker.instant_v1(s.checkpoint ->> 'timestamp') > p_now - p_stall, false))
                  FILTER (WHERE s.state = 'in_progress' AND s.batch_step_uuid IS NOT NULL)
        FROM (
            -- Ordered, so that the planner takes the primary key and no index that has the task second.
            SELECT * FROM tasker.workflow_steps s
            WHERE s.task_uuid = p_task AND s.state IN ('enqueued', 'in_progress')
            ORDER BY s.step_uuid OFFSET 0
        ) s
    ), false);
END;
$$;

-- instant_v1: the instant that a text names, null if it names none.
CREATE OR REPLACE FUNCTION tasker.instant_v1(p_text text) RETURNS timestamptz
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN p_text::timestamptz;
EXCEPTION WHEN data_exception THEN
    RETURN NULL;
END;
$$;

-- stale_tasks_v1: up to p_limit tasks that are stale and have no pending entry, longest in their state first, behind
-- the last one of the page before. Reads open tasks only.
CREATE OR REPLACE FUNCTION tasker.stale_tasks_v1(
    p_limits jsonb, p_limit integer, p_after_since timestamptz, p_after_task uuid)
RETURNS TABLE (
    task_uuid uuid, state text, namespace text, name text, lifecycle jsonb, since timestamptz,
    minutes_in_state double precision, threshold_minutes integer)
LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
DECLARE
    v_now timestamptz := tasker.now();
BEGIN
    RETURN QUERY
    SELECT s.task_uuid, s.state::text, n.namespace, n.name, s.lifecycle, s.since, s.minutes_in_state,
           s.threshold_minutes
    FROM (
        SELECT t.task_uuid, t.state, t.named_task_uuid, s.*
        FROM tasker.tasks t
        CROSS JOIN LATERAL tasker.task_staleness_v1(t, v_now, p_limits) s
        WHERE t.terminal_at IS NULL
          AND t.state IN ('waiting_for_dependencies', 'waiting_for_retry', 'steps_in_process')
          AND s.health = 'stale'
          AND (s.since, t.task_uuid) > (p_after_since, p_after_task)
          AND NOT EXISTS (SELECT FROM tasker.tasks_dlq e
                          WHERE e.task_uuid = t.task_uuid AND e.resolution_status = 'pending')
        ORDER BY s.since, t.task_uuid LIMIT p_limit
    ) s
    CROSS JOIN LATERAL tasker.task_name_v1(s.named_task_uuid) n
    ORDER BY s.since, s.task_uuid;
END;
$$;
