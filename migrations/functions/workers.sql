-- register_worker_v1: announce a worker, what it serves and what it can run; again after a reconnect.
CREATE OR REPLACE FUNCTION tasker.register_worker_v1(
    p_worker uuid, p_hostname text, p_version text, p_namespaces text[], p_handlers text[], p_slots integer)
RETURNS void
LANGUAGE sql VOLATILE AS $$
    -- Workers of last week are of no use to anybody.
    DELETE FROM tasker.workers w WHERE w.heartbeat_at < tasker.now() - interval '7 days';
    INSERT INTO tasker.workers AS w
           (worker_uuid, hostname, version, namespaces, handlers, slots, started_at, heartbeat_at)
    SELECT p_worker, p_hostname, p_version, p_namespaces, p_handlers, p_slots, n.now, n.now FROM tasker.now() AS n(now)
    ON CONFLICT (worker_uuid) DO UPDATE
    SET namespaces = excluded.namespaces, handlers = excluded.handlers, slots = excluded.slots,
        heartbeat_at = excluded.heartbeat_at, stopped_at = NULL
$$;

-- beat_v1: note that a worker lives, and how many of its slots are taken. It does not wait for whoever has locked the
-- workers: returns false then.
CREATE OR REPLACE FUNCTION tasker.beat_v1(p_worker uuid, p_slots_in_use integer) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_setting text := set_config('lock_timeout', '100ms', true);
BEGIN
    UPDATE tasker.workers w SET heartbeat_at = tasker.now(), slots_in_use = p_slots_in_use
    WHERE w.worker_uuid = p_worker;
    RETURN true;
EXCEPTION WHEN lock_not_available THEN
    RETURN false;
END;
$$;

-- retire_worker_v1: note that a worker has stopped.
CREATE OR REPLACE FUNCTION tasker.retire_worker_v1(p_worker uuid) RETURNS void
LANGUAGE sql VOLATILE AS $$
    UPDATE tasker.workers SET stopped_at = tasker.now() WHERE worker_uuid = p_worker
$$;
