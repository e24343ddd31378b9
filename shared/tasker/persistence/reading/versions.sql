-- Versions of a template, highest first, in use or not. Parameters: namespace, name; version, only this one, null for
-- all; below, only lower ones, null for all; skip; limit.
WITH open_tasks AS MATERIALIZED (
    -- The newest ones: a template may have millions of tasks that are over.
    SELECT k.named_task_uuid, count(*) AS count
    FROM (SELECT k.named_task_uuid FROM tasker.tasks k
          WHERE k.terminal_at IS NULL ORDER BY k.task_uuid DESC LIMIT 10000) k
    GROUP BY k.named_task_uuid
)
SELECT n.name AS namespace, t.name, t.version, t.active, t.template_digest::bytea AS digest,
       t.created_at AS registered_at, t.deactivated_at, t.deactivated_by, t.deactivation_reason,
       t.active AND t.named_task_uuid = (
           SELECT d.named_task_uuid FROM tasker.named_tasks d
           WHERE d.namespace_id = t.namespace_id AND d.name = t.name AND d.active
           ORDER BY string_to_array(d.version, '.')::numeric[] DESC LIMIT 1) AS is_default,
       coalesce((SELECT o.count FROM open_tasks o WHERE o.named_task_uuid = t.named_task_uuid), 0) AS open_tasks
FROM tasker.named_tasks t
JOIN tasker.task_namespaces n USING (namespace_id)
WHERE n.name = %(namespace)s AND t.name = %(name)s
  AND (%(version)s::text IS NULL OR t.version = %(version)s)
  AND (%(below)s::text IS NULL
       OR string_to_array(t.version, '.')::numeric[] < string_to_array(%(below)s, '.')::numeric[])
ORDER BY string_to_array(t.version, '.')::numeric[] DESC
LIMIT %(limit)s OFFSET %(skip)s
