-- phase: pre
-- The environment a task was created in: all its steps, also those that are added later, take its plan of the template.

-- Null in tasks that are older than the column: for them whoever adds steps still goes by its own.
ALTER TABLE tasker.tasks ADD COLUMN environment text;
