-- The registered versions of a template, highest first, and whether each is in use. Parameters: namespace, name.
SELECT t.version, t.active
FROM tasker.named_tasks t
JOIN tasker.task_namespaces n USING (namespace_id)
WHERE n.name = %(namespace)s AND t.name = %(name)s
ORDER BY string_to_array(t.version, '.')::numeric[] DESC
