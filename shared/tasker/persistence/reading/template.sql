-- A template version and its current revision; an empty version means the highest one. Parameters: namespace, name,
-- version.
SELECT t.namespace_id, t.named_task_uuid, t.template_digest, r.template AS document
FROM (
    SELECT t.namespace_id, t.named_task_uuid, t.template_digest
    FROM tasker.named_tasks t
    JOIN tasker.task_namespaces n USING (namespace_id)
    WHERE n.name = %(namespace)s AND t.name = %(name)s AND t.active
      AND (%(version)s::text = '' OR t.version = %(version)s)
    ORDER BY string_to_array(t.version, '.')::numeric[] DESC LIMIT 1
) t
JOIN tasker.template_revisions r USING (template_digest)
