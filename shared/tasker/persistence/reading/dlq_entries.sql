-- DLQ entries, newest first. To be filled in: conditions. Parameters: those of the conditions;
-- skip so many; limit.
SELECT e.dlq_entry_uuid, e.task_uuid, e.original_state, e.dlq_reason, e.dlq_timestamp, e.resolution_status,
       e.resolution_timestamp, e.resolution_notes, e.resolved_by, e.task_snapshot, e.metadata, e.created_at,
       e.updated_at
FROM tasker.tasks_dlq e
WHERE {conditions}
ORDER BY e.dlq_timestamp DESC, e.dlq_entry_uuid DESC
OFFSET %(skip)s LIMIT %(limit)s
