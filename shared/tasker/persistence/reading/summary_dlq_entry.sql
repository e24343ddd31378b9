-- The newest DLQ entry of a task: the pending one, if there is one. Parameter: task.
SELECT e.dlq_reason, e.resolution_status
FROM tasker.tasks_dlq e
WHERE e.task_uuid = %(task)s
ORDER BY e.dlq_timestamp DESC, e.dlq_entry_uuid DESC LIMIT 1
