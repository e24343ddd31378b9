-- One step of a revision planned for an environment, unless it is there.
INSERT INTO tasker.template_steps (
    template_digest, environment, position, name, step_type, handler, inputs, initial, retryable, max_attempts,
    backoff, backoff_base_ms, max_backoff_ms, timeout_seconds, on_worker_lost, parents, ancestors)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT DO NOTHING
