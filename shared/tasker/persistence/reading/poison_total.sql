-- How many messages were recorded as poison, counted up to a number. Parameters: task, only those that named it, null
-- for all; most.
SELECT count(*) FROM (
    SELECT FROM tasker.poison_messages p WHERE %(task)s::uuid IS NULL OR p.task_uuid = %(task)s LIMIT %(most)s
) p
