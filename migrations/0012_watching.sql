-- phase: pre
-- Watching many tasks: what was committed since a snapshot, found by transaction. Of tasks only, which move twice or so;
-- those of steps are eight times as many, and are found by their task.

CREATE INDEX task_transitions_xid_idx ON tasker.task_transitions (xid);
