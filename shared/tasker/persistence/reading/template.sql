-- A template version and its current revision; an empty version means the highest one in use. Parameters: namespace,
-- name, version.
SELECT t.namespace_id, t.named_task_uuid, t.template_digest, t.active, r.template AS document
FROM (
    SELECT t.namespace_id, t.named_task_uuid, t.template_digest, t.active
    FROM tasker.named_tasks t
    JOIN tasker.task_namespaces n USING (namespace_id)
    WHERE n.name = %(namespace)s AND t.name = %(name)s
      AND (t.version = %(version)s OR %(version)s::text = '' AND t.active)
    ORDER BY string_to_array(t.version, '.')::numeric[] DESC LIMIT 1
) t
JOIN tasker.template_revisions r USING (template_digest)
