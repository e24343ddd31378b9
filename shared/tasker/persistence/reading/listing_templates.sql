-- The uuids of all versions of templates by namespace and name. Parameters: namespace, name; null for any.
SELECT n.named_task_uuid
FROM tasker.named_tasks n
JOIN tasker.task_namespaces ns USING (namespace_id)
WHERE (%(namespace)s::text IS NULL OR ns.name = %(namespace)s) AND (%(name)s::text IS NULL OR n.name = %(name)s)
