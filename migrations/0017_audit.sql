-- phase: pre
-- One row for each result a worker reported: a view, since transitions and results are
-- insert-only and share their key.
CREATE VIEW tasker.workflow_step_result_audit AS
SELECT r.task_uuid, r.step_uuid, s.name AS step_name, r.sort_key, r.attempt, t.from_state, t.to_state,
       r.recorded_at, t.worker_uuid, k.correlation_id, r.success,
       (r.metadata ->> 'execution_time_ms')::bigint AS execution_time_ms,
       r.status, r.result, r.error, r.metadata, r.orchestration
FROM tasker.step_results r
JOIN tasker.workflow_step_transitions t USING (task_uuid, step_uuid, sort_key)
JOIN tasker.workflow_steps s USING (task_uuid, step_uuid)
JOIN tasker.tasks k USING (task_uuid)
WHERE t.to_state IN ('enqueued_for_orchestration', 'enqueued_as_error_for_orchestration');
