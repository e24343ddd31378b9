-- phase: pre
-- Finding tasks among many (ListTasks). No key is a column that changes while a task is open, so that its updates stay
-- heap-only; the predicates change when it ends, as that of tasks_open_idx does. What a filter finds many of is read in
-- the order of a page, newest first. Tasks without labels, and those with the initiator or source system that
-- CreateTask gives, pay nothing for the indexes of these: such values find nothing.
-- No index ends with task_uuid, by which ties are broken: the planner would take it where a table seems tiny and only
-- the primary key will do. The few tasks of one instant are sorted instead.

CREATE INDEX tasks_created_idx ON tasker.tasks (created_at);
CREATE INDEX tasks_template_idx ON tasker.tasks (named_task_uuid, created_at);
CREATE INDEX tasks_correlation_idx ON tasker.tasks (correlation_id);
CREATE INDEX tasks_parent_correlation_idx ON tasker.tasks (parent_correlation_id)
    WHERE parent_correlation_id IS NOT NULL;
CREATE INDEX tasks_initiator_idx ON tasker.tasks (initiator, created_at) WHERE initiator <> 'grpc';
CREATE INDEX tasks_source_system_idx ON tasker.tasks (source_system, created_at)
    WHERE source_system <> 'tasker-core';
CREATE INDEX tasks_tags_idx ON tasker.tasks USING gin (tags) WHERE tags <> '{}';
-- What ended without being complete: a few among many. Only complete tasks have a completed_at.
CREATE INDEX tasks_unsuccessful_idx ON tasker.tasks (created_at)
    WHERE terminal_at IS NOT NULL AND completed_at IS NULL;
