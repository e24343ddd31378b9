-- Make a template version point at a revision; the version is made when it is new.
INSERT INTO tasker.named_tasks AS t (
    named_task_uuid, namespace_id, name, version, description, identity_strategy, template_digest)
VALUES (%s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (namespace_id, name, version) DO UPDATE
SET description = excluded.description, identity_strategy = excluded.identity_strategy,
    template_digest = excluded.template_digest, active = true, updated_at = tasker.now()
RETURNING named_task_uuid
