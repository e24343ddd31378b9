-- pause_namespace_v1: stop workers from claiming steps of a namespace. What is claimed already is finished, and its
-- messages wait. Returns the pause, and whether it began now: one that was there before stays as it is. Nothing if there
-- is no such namespace.
CREATE OR REPLACE FUNCTION tasker.pause_namespace_v1(p_namespace text, p_requested_by text, p_reason text)
RETURNS TABLE (namespace text, paused_at timestamptz, requested_by text, reason text, changed boolean)
LANGUAGE sql VOLATILE AS $$
    INSERT INTO tasker.paused_namespaces AS p (namespace, paused_at, requested_by, reason)
    SELECT n.name, tasker.now(), p_requested_by, p_reason FROM tasker.task_namespaces n WHERE n.name = p_namespace
    ON CONFLICT (namespace) DO UPDATE SET reason = p.reason  -- so that it is returned
    RETURNING p.namespace, p.paused_at, p.requested_by, p.reason, p.xmax = 0
$$;

-- resume_namespace_v1: let workers claim steps of a namespace again, and wake them. Returns whether there is such a
-- namespace, and whether it was paused.
CREATE OR REPLACE FUNCTION tasker.resume_namespace_v1(p_namespace text, OUT known boolean, OUT changed boolean)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_hinted boolean;
BEGIN
    known := EXISTS (SELECT FROM tasker.task_namespaces n WHERE n.name = p_namespace);
    DELETE FROM tasker.paused_namespaces p WHERE p.namespace = p_namespace;
    changed := FOUND;
    IF changed THEN
        SELECT bool_or(tasker.hint_v1('tasker_' || q.queue)) INTO v_hinted
        FROM unnest(tasker.worker_queues_v1(p_namespace)) AS q(queue);
    END IF;
END;
$$;

-- paused_queues_v1: the queues that nobody claims from; empty, as a rule, and a look at an empty table then.
CREATE OR REPLACE FUNCTION tasker.paused_queues_v1() RETURNS text[]
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN ARRAY(
        SELECT q.queue
        FROM tasker.paused_namespaces p CROSS JOIN LATERAL unnest(tasker.worker_queues_v1(p.namespace)) AS q(queue));
END;
$$;
