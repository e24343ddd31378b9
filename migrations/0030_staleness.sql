-- phase: pre
-- A task that is old is not stale while it moves.

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
