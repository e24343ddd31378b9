-- task_name_v1: what a task is called: namespace, name and version of its template.
CREATE OR REPLACE FUNCTION tasker.task_name_v1(p_named_task uuid) RETURNS TABLE (namespace text, name text, version text)
LANGUAGE sql STABLE AS $$
    SELECT ns.name, n.name, n.version
    FROM (SELECT * FROM tasker.named_tasks n WHERE n.named_task_uuid = p_named_task LIMIT 1) n
    CROSS JOIN LATERAL (SELECT * FROM tasker.task_namespaces ns WHERE ns.namespace_id = n.namespace_id LIMIT 1) ns
$$;
