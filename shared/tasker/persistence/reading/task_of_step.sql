-- The task that a step belongs to, if that is near: nothing is indexed by step alone, but a step's uuid is made right
-- after its task's, so that one of the tasks just before it is the one. Parameter: step.
SELECT s.task_uuid
FROM (SELECT t.task_uuid FROM tasker.tasks t WHERE t.task_uuid < %(step)s ORDER BY t.task_uuid DESC LIMIT 1000) t
CROSS JOIN LATERAL (
    SELECT s.task_uuid FROM tasker.workflow_steps s
    WHERE s.task_uuid = t.task_uuid AND s.step_uuid = %(step)s
    LIMIT 1
) s
LIMIT 1
