-- Keep a revision; an equal one is the same. Parameters: template_digest, named_task_uuid, template.
INSERT INTO tasker.template_revisions (template_digest, named_task_uuid, template, created_at)
VALUES (%s, %s, %s, tasker.now())
ON CONFLICT DO NOTHING
