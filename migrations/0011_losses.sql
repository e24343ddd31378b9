-- phase: pre
-- Workers that steps have lost. A loss is no attempt of the step's own; a step that loses one after the other runs alone.

ALTER TABLE tasker.workflow_steps
    ADD COLUMN losses smallint NOT NULL DEFAULT 0,
    -- Attempts that were lost without fault: max_attempts has grown by them.
    ADD COLUMN forgiven_attempts smallint NOT NULL DEFAULT 0;

-- Whether the step runs beside others, waits until they have ended, or runs alone.
ALTER TABLE tasker.step_leases
    ADD COLUMN company text NOT NULL DEFAULT 'beside' CHECK (company IN ('beside', 'waiting', 'alone'));
