-- task_snapshot_v1: a locked task as a person will want to have seen it. Of its steps the 50 that are furthest from done,
-- with the beginning of their last error; of its transitions the 20 newest. p_limits as in task_staleness_v1; null where no limit led
-- here.
CREATE OR REPLACE FUNCTION tasker.task_snapshot_v1(p_task tasker.tasks, p_now timestamptz, p_limits jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (
        SELECT jsonb_build_object(
            'task_uuid', (p_task).task_uuid, 'namespace', n.namespace, 'task_name', n.name,
            'current_state', (p_task).state, 'time_in_state_minutes', floor(s.minutes_in_state)::integer,
            'threshold_minutes', coalesce(s.threshold_minutes, 1440), 'snapshot_timestamp', p_now,
            'task_details', jsonb_build_object(
                'version', n.version, 'correlation_id', (p_task).correlation_id, 'priority', (p_task).priority,
                'requested_at', (p_task).requested_at, 'created_at', (p_task).created_at),
            'steps', tasker.snapshot_steps_v1((p_task).task_uuid),
            'recent_transitions', (
                SELECT coalesce(jsonb_agg(jsonb_build_object(
                           'from_state', x.from_state, 'to_state', x.to_state, 'metadata', x.metadata,
                           'created_at', x.created_at) ORDER BY x.sort_key DESC), '[]')
                FROM (SELECT * FROM tasker.task_transitions x WHERE x.task_uuid = (p_task).task_uuid
                      ORDER BY x.sort_key DESC LIMIT 20) x),
            'execution_context', tasker.execution_context_v1(p_task, p_now))
        FROM tasker.task_name_v1((p_task).named_task_uuid) n
        CROSS JOIN LATERAL tasker.task_staleness_v1(p_task, p_now, p_limits) s
    );
END;
$$;

-- snapshot_steps_v1: the steps of a snapshot.
CREATE OR REPLACE FUNCTION tasker.snapshot_steps_v1(p_task uuid) RETURNS jsonb
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (
        SELECT coalesce(jsonb_agg(jsonb_build_object(
                   'step_uuid', s.step_uuid, 'name', s.name, 'state', s.state, 'attempts', s.attempts,
                   'max_attempts', s.max_attempts, 'next_retry_at', s.next_retry_at,
                   'last_attempted_at', s.last_attempted_at, 'updated_at', s.updated_at,
                   'error_type', r.error ->> 'error_type', 'error_message', left(r.error ->> 'message', 500))
                   ORDER BY s.place), '[]')
        FROM (
            SELECT s.*, row_number() OVER (ORDER BY o.satisfied, o.calm, s.step_uuid) AS place
            FROM (SELECT * FROM tasker.workflow_steps s WHERE s.task_uuid = p_task ORDER BY s.step_uuid OFFSET 0) s
            CROSS JOIN LATERAL (
                SELECT s.state IN ('complete', 'resolved_manually') AS satisfied, s.state <> 'error' AS calm OFFSET 0
            ) o
            ORDER BY place LIMIT 50
        ) s
        LEFT JOIN LATERAL (
            SELECT r.error FROM tasker.step_results r
            WHERE r.task_uuid = s.task_uuid AND r.step_uuid = s.step_uuid AND r.sort_key > s.results_after
            ORDER BY r.sort_key DESC LIMIT 1
        ) r ON true
    );
END;
$$;

-- execution_context_v1: the counts of a task's steps and what follows from them (as
-- tasker.domain.step_counts has it).
CREATE OR REPLACE FUNCTION tasker.execution_context_v1(p_task tasker.tasks, p_now timestamptz) RETURNS jsonb
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (
        SELECT jsonb_build_object(
            'total_steps', (p_task).total_steps, 'completed_steps', (p_task).satisfied_steps,
            'failed_steps', (p_task).failed_steps, 'in_flight_steps', (p_task).in_flight_steps,
            'waiting_for_retry_steps', (p_task).backoff_steps, 'ready_steps', c.ready,
            'execution_status', CASE
                WHEN (p_task).failed_steps > 0 THEN 'blocked_by_failures'
                WHEN c.ready > 0 THEN 'has_ready_steps'
                WHEN (p_task).in_flight_steps > 0 THEN 'processing'
                WHEN (p_task).satisfied_steps = (p_task).total_steps AND (p_task).total_steps > 0 THEN 'all_complete'
                ELSE 'waiting_for_dependencies' END,
            'completion_percentage',
                coalesce(round(100.0 * (p_task).satisfied_steps / nullif((p_task).total_steps, 0), 2), 0))
        FROM (
            SELECT count(*) AS ready
            FROM (SELECT * FROM tasker.workflow_steps s WHERE s.task_uuid = (p_task).task_uuid
                  ORDER BY s.step_uuid OFFSET 0) s
            WHERE s.unmet_parents = 0
              AND (s.state = 'pending' OR (s.state = 'waiting_for_retry' AND s.next_retry_at <= p_now))
        ) c
    );
END;
$$;
