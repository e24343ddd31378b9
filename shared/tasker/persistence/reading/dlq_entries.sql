-- DLQ entries, newest first. Those that a page has no room for come without their snapshot; the first has it always.
-- To be filled in: conditions. Parameters: those of the conditions; skip so many; limit; bytes, the room for snapshots
-- and metadata together.
SELECT e.dlq_entry_uuid, e.task_uuid, e.original_state, e.dlq_reason, e.dlq_timestamp, e.resolution_status,
       e.resolution_timestamp, e.resolution_notes, e.resolved_by,
       CASE WHEN row_number() OVER page = 1
                 OR sum(octet_length(e.task_snapshot::text) + coalesce(octet_length(e.metadata::text), 0)) OVER page
                    <= %(bytes)s
            THEN e.task_snapshot END AS task_snapshot,
       e.metadata, e.created_at, e.updated_at
FROM (
    SELECT * FROM tasker.tasks_dlq e
    WHERE {conditions}
    ORDER BY e.dlq_timestamp DESC, e.dlq_entry_uuid DESC
    OFFSET %(skip)s LIMIT %(limit)s
) e
WINDOW page AS (ORDER BY e.dlq_timestamp DESC, e.dlq_entry_uuid DESC)
ORDER BY e.dlq_timestamp DESC, e.dlq_entry_uuid DESC
