-- Namespaces that are paused, by name.
SELECT p.namespace, p.paused_at, p.requested_by, p.reason FROM tasker.paused_namespaces p ORDER BY p.namespace
