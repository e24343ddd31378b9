-- A page of the many tasks that match: read in order if an index has that order, else all of them, sorted.
SELECT t.task_uuid
FROM tasker.tasks t {templates}
WHERE {conditions} AND {behind}
ORDER BY {order} OFFSET %(skip)s LIMIT %(limit)s
