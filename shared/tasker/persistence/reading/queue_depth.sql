-- How many visible messages some queues hold together. Parameters: queues; most, how many of each are counted.
SELECT count(*) AS depth
FROM unnest(%(queues)s::text[]) AS q(queue)
CROSS JOIN LATERAL tasker.visible_messages_v1(q.queue, %(most)s) m
