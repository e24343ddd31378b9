-- The uuid and current digest of a template version, locked. Parameters: namespace_id, name, version.
SELECT named_task_uuid, template_digest
FROM tasker.named_tasks
WHERE namespace_id = %s AND name = %s AND version = %s
FOR UPDATE
