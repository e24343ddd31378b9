-- All namespaces with the number of template versions in each.
SELECT n.name, n.description, count(t.named_task_uuid) FILTER (WHERE t.active) AS template_count
FROM tasker.task_namespaces n
LEFT JOIN tasker.named_tasks t USING (namespace_id)
GROUP BY n.namespace_id
ORDER BY n.name
