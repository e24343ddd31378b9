-- Open tasks in the states that have a limit of their own: stale, then warning, then healthy; then longest in state.
-- Parameters: limits (tasker.domain.staleness); at, by which clock they are judged, null for now; after_place,
-- after_minutes and after_task, the last task of the page before, null for none; skip so many; limit.
SELECT s.task_uuid, n.namespace, n.name, s.state::text, s.priority,
       s.minutes_in_state AS time_in_state_minutes, s.age_minutes,
       s.threshold_minutes, s.percentage, s.minutes_until_stale, s.health, s.read_at
FROM (
    SELECT t.task_uuid, t.state, t.priority, t.named_task_uuid, clock.now AS read_at, s.*, p.place
    FROM (SELECT coalesce(%(at)s::timestamptz, tasker.now()) AS now OFFSET 0) clock
    CROSS JOIN tasker.tasks t
    CROSS JOIN LATERAL tasker.task_staleness_v1(t, clock.now, %(limits)s) s
    CROSS JOIN LATERAL (SELECT array_position('{stale,warning,healthy}', s.health) AS place OFFSET 0) p
    WHERE t.terminal_at IS NULL
      AND t.state IN ('waiting_for_dependencies', 'waiting_for_retry', 'steps_in_process')
      AND (%(after_task)s::uuid IS NULL
           OR (p.place, -s.minutes_in_state, t.task_uuid)
              > (%(after_place)s::integer, -%(after_minutes)s::double precision, %(after_task)s::uuid))
    ORDER BY p.place, s.minutes_in_state DESC, t.task_uuid OFFSET %(skip)s LIMIT %(limit)s
) s
CROSS JOIN LATERAL tasker.task_name_v1(s.named_task_uuid) n
ORDER BY s.place, s.minutes_in_state DESC, s.task_uuid
