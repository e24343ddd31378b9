-- Open tasks that a watch of many matches, up to a limit.
-- Parameters: namespace, name, tags, correlation_id (null, or no tags: any), most.
SELECT t.task_uuid, ns.name AS namespace, n.name
FROM tasker.tasks t
JOIN tasker.named_tasks n ON n.named_task_uuid = t.named_task_uuid
JOIN tasker.task_namespaces ns ON ns.namespace_id = n.namespace_id
WHERE t.terminal_at IS NULL
  AND (%(namespace)s::text IS NULL OR ns.name = %(namespace)s)
  AND (%(name)s::text IS NULL OR n.name = %(name)s)
  AND (%(correlation_id)s::uuid IS NULL OR t.correlation_id = %(correlation_id)s)
  AND t.tags @> %(tags)s::text[]
LIMIT %(most)s
