-- The registered versions of a template, highest first. Parameters: namespace, name.
SELECT t.version
FROM tasker.named_tasks t
JOIN tasker.task_namespaces n USING (namespace_id)
WHERE n.name = %(namespace)s AND t.name = %(name)s AND t.active
ORDER BY string_to_array(t.version, '.')::numeric[] DESC
