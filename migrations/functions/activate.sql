-- deactivate_version_v1: take a version of a template out of use: it is no default, and no task is created of it any
-- more. Tasks of it go on. Orchestrators hear of it, and each create asks. Returns whether it was in use: one that was
-- not stays as it is, with what was said then.
CREATE OR REPLACE FUNCTION tasker.deactivate_version_v1(
    p_namespace text, p_name text, p_version text, p_requested_by text, p_reason text) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_now CONSTANT timestamptz := tasker.now();
BEGIN
    UPDATE tasker.named_tasks t
    SET active = false, deactivated_at = v_now, deactivated_by = p_requested_by, deactivation_reason = p_reason,
        updated_at = v_now
    WHERE t.namespace_id = (SELECT n.namespace_id FROM tasker.task_namespaces n WHERE n.name = p_namespace)
      AND t.name = p_name AND t.version = p_version AND t.active;
    IF FOUND THEN
        PERFORM pg_notify('tasker_template_changed', '');
        RETURN true;
    END IF;
    RETURN false;
END;
$$;

-- activate_version_v1: put a version of a template into use again. Returns whether it was out of use.
CREATE OR REPLACE FUNCTION tasker.activate_version_v1(p_namespace text, p_name text, p_version text) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    UPDATE tasker.named_tasks t
    SET active = true, deactivated_at = NULL, deactivated_by = NULL, deactivation_reason = NULL,
        updated_at = tasker.now()
    WHERE t.namespace_id = (SELECT n.namespace_id FROM tasker.task_namespaces n WHERE n.name = p_namespace)
      AND t.name = p_name AND t.version = p_version AND NOT t.active;
    IF FOUND THEN
        PERFORM pg_notify('tasker_template_changed', '');
        RETURN true;
    END IF;
    RETURN false;
END;
$$;
