-- Registered template versions, by namespace and name, highest version first. Parameters: namespace, null for all;
-- after_namespace, after_name and after_version, the last one of the page before, null for none; skip so many; limit,
-- null for all; longest_description, in characters: of a longer one the beginning.
SELECT n.name AS namespace, t.name, t.version,
       CASE WHEN length(t.description) <= %(longest_description)s THEN t.description
            ELSE left(t.description, %(longest_description)s - 3) || '...' END AS description,
       jsonb_array_length(r.template -> 'steps') AS step_count
FROM tasker.named_tasks t
JOIN tasker.task_namespaces n USING (namespace_id)
JOIN tasker.template_revisions r USING (template_digest)
CROSS JOIN LATERAL (SELECT string_to_array(t.version, '.')::numeric[] AS numbers OFFSET 0) v
WHERE t.active AND (%(namespace)s::text IS NULL OR n.name = %(namespace)s)
  AND (%(after_name)s::text IS NULL
       OR (n.name, t.name) > (%(after_namespace)s::text, %(after_name)s::text)
       OR ((n.name, t.name) = (%(after_namespace)s::text, %(after_name)s::text)
           AND v.numbers < string_to_array(%(after_version)s::text, '.')::numeric[]))
ORDER BY n.name, t.name, v.numbers DESC
OFFSET %(skip)s LIMIT %(limit)s::bigint
