-- phase: pre
-- What operators decide about namespaces and versions of templates.

-- Whose steps nobody claims. Every claim asks, so there is a row only while a pause lasts.
CREATE TABLE tasker.paused_namespaces (
    namespace    text        PRIMARY KEY REFERENCES tasker.task_namespaces (name),
    paused_at    timestamptz NOT NULL,
    requested_by text        NOT NULL,
    reason       text        NOT NULL
);

-- Who took a version out of use (`active` is false then), when and why.
ALTER TABLE tasker.named_tasks
    ADD COLUMN deactivated_at timestamptz,
    ADD COLUMN deactivated_by text,
    ADD COLUMN deactivation_reason text;
-- Every create asks whether there are any.
CREATE INDEX named_tasks_inactive_idx ON tasker.named_tasks (named_task_uuid) WHERE NOT active;
