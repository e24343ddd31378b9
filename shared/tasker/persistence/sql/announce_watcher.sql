-- Have transactions hint their transitions for a while; forget watchers that are long gone.
-- Parameters: watcher, steps, seconds.
WITH gone AS (
    DELETE FROM tasker.watchers w WHERE w.expires_at < clock_timestamp() - interval '1 hour'
)
INSERT INTO tasker.watchers (watcher_uuid, steps, expires_at)
VALUES (%(watcher)s, %(steps)s, clock_timestamp() + make_interval(secs => %(seconds)s))
ON CONFLICT (watcher_uuid) DO UPDATE SET steps = excluded.steps, expires_at = excluded.expires_at
