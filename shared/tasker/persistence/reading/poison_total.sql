-- How many messages were recorded as poison, counted up to a number. {which} as in poison_messages. Parameters: task;
-- most.
SELECT count(*) FROM (SELECT FROM tasker.poison_messages p WHERE {which} LIMIT %(most)s) p
