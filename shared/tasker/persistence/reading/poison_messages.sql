-- Messages that nobody could handle, newest first.
-- Parameters: task, only those that named it, null for all; limit.
SELECT p.poison_id, p.queue, p.msg_id, p.message, p.error, p.task_uuid, p.step_uuid, p.recorded_at
FROM tasker.poison_messages p
WHERE %(task)s::uuid IS NULL OR p.task_uuid = %(task)s
ORDER BY p.poison_id DESC
LIMIT %(limit)s
