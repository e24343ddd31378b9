-- Keep a revision; an equal one is the same. Parameters: template_digest, named_task_uuid, template.
INSERT INTO tasker.template_revisions (template_digest, named_task_uuid, template)
VALUES (%s, %s, %s)
ON CONFLICT DO NOTHING
