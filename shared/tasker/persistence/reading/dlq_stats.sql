-- Entries by reason. The average is that of entries which left `pending`.
SELECT e.dlq_reason, count(*) AS total_entries,
       count(*) FILTER (WHERE e.resolution_status = 'pending') AS pending,
       count(*) FILTER (WHERE e.resolution_status = 'manually_resolved') AS manually_resolved,
       count(*) FILTER (WHERE e.resolution_status = 'permanently_failed') AS permanent_failures,
       count(*) FILTER (WHERE e.resolution_status = 'cancelled') AS cancelled,
       min(e.dlq_timestamp) AS oldest_entry, max(e.dlq_timestamp) AS newest_entry,
       (extract(epoch FROM avg(e.resolution_timestamp - e.dlq_timestamp)
           FILTER (WHERE e.resolution_status <> 'pending')) / 60)::double precision AS avg_resolution_time_minutes
FROM tasker.tasks_dlq e
GROUP BY e.dlq_reason
ORDER BY e.dlq_reason
