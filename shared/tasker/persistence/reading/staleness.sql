-- Open tasks in the states that have a limit of their own: stale, then warning, then healthy; then longest in state.
-- Parameters: limits (tasker.domain.staleness); limit, how many.
SELECT s.task_uuid, n.namespace, n.name, s.state::text, s.priority,
       s.minutes_in_state AS time_in_state_minutes, s.age_minutes,
       s.threshold_minutes, s.percentage, s.minutes_until_stale, s.health
FROM (
    SELECT t.task_uuid, t.state, t.priority, t.named_task_uuid, s.*,
           array_position('{stale,warning,healthy}', s.health) AS place
    FROM (SELECT tasker.now() AS now OFFSET 0) clock
    CROSS JOIN tasker.tasks t
    CROSS JOIN LATERAL tasker.task_staleness_v1(t, clock.now, %(limits)s) s
    WHERE t.terminal_at IS NULL
      AND t.state IN ('waiting_for_dependencies', 'waiting_for_retry', 'steps_in_process')
    ORDER BY place, s.minutes_in_state DESC, t.task_uuid LIMIT %(limit)s
) s
CROSS JOIN LATERAL tasker.task_name_v1(s.named_task_uuid) n
ORDER BY s.place, s.minutes_in_state DESC, s.task_uuid
