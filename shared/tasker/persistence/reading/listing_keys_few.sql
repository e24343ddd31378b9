-- A page of the few tasks that match: all of them are found by the filters' indexes, then sorted. Without the fence
-- the planner might walk through all tasks in order until it has met enough of them.
SELECT t.task_uuid
FROM (SELECT * FROM tasker.tasks t WHERE {conditions} OFFSET 0) t {templates}
WHERE {behind}
ORDER BY {order} OFFSET %(skip)s LIMIT %(limit)s
