-- How many results workers submitted for a step. Parameters: task; step.
SELECT count(*) FROM tasker.workflow_step_result_audit a WHERE a.task_uuid = %(task)s AND a.step_uuid = %(step)s
