-- Have transactions hint their transitions for a while. Parameters: watcher, steps, seconds.
INSERT INTO tasker.watchers (watcher_uuid, steps, expires_at)
VALUES (%(watcher)s, %(steps)s, clock_timestamp() + make_interval(secs => %(seconds)s))
ON CONFLICT (watcher_uuid) DO UPDATE SET steps = excluded.steps, expires_at = excluded.expires_at
