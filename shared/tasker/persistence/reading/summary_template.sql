-- The template of a task, as it was when the task was created. Parameter: task.
SELECT r.template
FROM (SELECT t.template_digest FROM tasker.tasks t WHERE t.task_uuid = %(task)s LIMIT 1) t
CROSS JOIN LATERAL (
    SELECT r.template FROM tasker.template_revisions r WHERE r.template_digest = t.template_digest LIMIT 1
) r
