-- How many entries match, counted up to a number and one more. To be filled in: conditions; exact, the number.
SELECT count(*) FROM (SELECT FROM tasker.tasks_dlq e WHERE {conditions} LIMIT {exact} + 1) e
