-- How many open tasks are in the states that have a limit of their own, counted up to a number and one more. To be filled
-- in: exact, the number.
SELECT count(*)
FROM (
    SELECT FROM tasker.tasks t
    WHERE t.terminal_at IS NULL
      AND t.state IN ('waiting_for_dependencies', 'waiting_for_retry', 'steps_in_process')
    LIMIT {exact} + 1
) t
