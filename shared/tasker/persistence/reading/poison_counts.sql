-- How many messages were recorded as poison in the last hour and the last day, at most 10,000 counted.
SELECT count(*) FILTER (WHERE p.recorded_at > n.now - interval '1 hour') AS last_hour, count(*) AS last_day
FROM (SELECT tasker.now()) AS n(now)
CROSS JOIN LATERAL (
    SELECT p.recorded_at FROM tasker.poison_messages p
    WHERE p.recorded_at > n.now - interval '1 day'
    ORDER BY p.recorded_at DESC LIMIT 10000
) p
