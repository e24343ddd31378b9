-- Make a template version point at a revision; the version is made when it is new.
INSERT INTO tasker.named_tasks AS t (
    named_task_uuid, namespace_id, name, version, description, identity_strategy, template_digest, created_at,
    updated_at)
SELECT %s, %s, %s, %s, %s, %s, %s, n.now, n.now FROM tasker.now() AS n(now)
ON CONFLICT (namespace_id, name, version) DO UPDATE
SET description = excluded.description, identity_strategy = excluded.identity_strategy,
    template_digest = excluded.template_digest, active = true, updated_at = excluded.updated_at
RETURNING named_task_uuid
