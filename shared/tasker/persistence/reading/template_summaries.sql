-- Registered template versions, by namespace and name, highest version first. Parameter: namespace, null for all.
SELECT n.name AS namespace, t.name, t.version, t.description,
       jsonb_array_length(r.template -> 'steps') AS step_count
FROM tasker.named_tasks t
JOIN tasker.task_namespaces n USING (namespace_id)
JOIN tasker.template_revisions r USING (template_digest)
WHERE t.active AND (%(namespace)s::text IS NULL OR n.name = %(namespace)s)
ORDER BY n.name, t.name, string_to_array(t.version, '.')::numeric[] DESC
