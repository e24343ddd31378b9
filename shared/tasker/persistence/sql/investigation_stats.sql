-- Entries by reason. The average is that of entries which left `pending`.
SELECT e.dlq_reason, count(*),
       count(*) FILTER (WHERE e.resolution_status = 'pending'),
       count(*) FILTER (WHERE e.resolution_status = 'manually_resolved'),
       count(*) FILTER (WHERE e.resolution_status = 'permanently_failed'),
       count(*) FILTER (WHERE e.resolution_status = 'cancelled'),
       min(e.dlq_timestamp), max(e.dlq_timestamp),
       (extract(epoch FROM avg(e.resolution_timestamp - e.dlq_timestamp)
           FILTER (WHERE e.resolution_status <> 'pending')) / 60)::double precision
FROM tasker.tasks_dlq e
GROUP BY e.dlq_reason
ORDER BY e.dlq_reason
