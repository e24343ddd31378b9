-- A template version and its current revision. Parameters: namespace, name, version.
SELECT n.namespace_id, t.named_task_uuid, t.template_digest, r.template
FROM tasker.named_tasks t
JOIN tasker.task_namespaces n USING (namespace_id)
JOIN tasker.template_revisions r USING (template_digest)
WHERE n.name = %s AND t.name = %s AND t.version = %s AND t.active
