-- take_judgements_v1: take the results that need judgement, with all that judging needs.
-- Their tasks stay locked until the caller, in the same transaction, has applied its verdicts. Steps past
-- their notification state come back with `state` as it is: they need no verdict, only the evaluation. One row is
-- always returned, for how many messages were delayed; without a step when there is nothing to judge.
-- `inputs` and `checkpoint` come with instances of batches only.
CREATE OR REPLACE FUNCTION tasker.take_judgements_v1(p_limit integer, p_low_water bigint, p_only bigint)
RETURNS TABLE (
    top_msg_id bigint, delayed integer, task_uuid uuid, step_uuid uuid, name text, step_type text, state text,
    attempts integer, max_attempts integer, losses smallint, forgiven_attempts smallint, retryable boolean, on_worker_lost text, backoff text,
    backoff_base_ms integer, max_backoff_ms integer, success boolean, status text, result jsonb, error jsonb,
    metadata jsonb, orchestration jsonb, judged_at timestamptz, inputs jsonb, checkpoint jsonb)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    v_tasks uuid[];
    v_steps uuid[];
    v_busy  integer;
    v_top   bigint;
BEGIN
    SELECT h.tasks, h.steps, h.busy, h.top_msg_id INTO v_tasks, v_steps, v_busy, v_top
    FROM tasker.lock_tasks_v1('orchestration_step_judgements', p_limit, p_low_water, p_only) h;

    RETURN QUERY
    SELECT h.top, h.busy, s.task_uuid, s.step_uuid, s.name, s.step_type::text, s.state::text, s.attempts,
           s.max_attempts, s.losses, s.forgiven_attempts, s.retryable, s.on_worker_lost::text, s.backoff::text, s.backoff_base_ms, s.max_backoff_ms,
           r.success, r.status::text, r.result, r.error, r.metadata, r.orchestration, tasker.now(),
           CASE WHEN s.batch_step_uuid IS NOT NULL THEN s.inputs END,
           CASE WHEN s.batch_step_uuid IS NOT NULL THEN s.checkpoint END
    FROM (SELECT v_top, v_busy) AS h(top, busy)
    LEFT JOIN unnest(v_tasks, v_steps) AS m(task_uuid, step_uuid) ON true
    LEFT JOIN LATERAL (
        SELECT * FROM tasker.workflow_steps s WHERE s.task_uuid = m.task_uuid AND s.step_uuid = m.step_uuid LIMIT 1
    ) s ON true
    LEFT JOIN LATERAL (
        SELECT * FROM tasker.step_results r
        WHERE r.task_uuid = s.task_uuid AND r.step_uuid = s.step_uuid
        ORDER BY r.sort_key DESC LIMIT 1
    ) r ON true;
END;
$$;

-- apply_verdicts_v1: judge_by_ids_v1 and its messages.
CREATE OR REPLACE FUNCTION tasker.apply_verdicts_v1(p_verdicts jsonb) RETURNS boolean
LANGUAGE sql VOLATILE AS $$
    SELECT tasker.send_steps_v1(tasker.judge_by_ids_v1(p_verdicts))
$$;

-- judge_by_ids_v1: apply verdicts to submitted steps and advance their tasks. The caller has locked the tasks.
-- p_verdicts: [{task_uuid, step_uuid, verdict: complete | retry | error | poison | none, delay_seconds, forgiven, lost,
--               reason, replacement: {result, error, metadata}}]
-- `none` only has the task evaluated; `poison` is an error that may strike a step anywhere in flight. Other steps
-- past their notification state keep their state. Where there is a `replacement`, it becomes the step's newest result.
-- Returns what to send.
CREATE OR REPLACE FUNCTION tasker.judge_by_ids_v1(p_verdicts jsonb) RETURNS tasker.outbox
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    v_now      timestamptz;
    v_rows     tid[];
    v_states   text[];
    v_verdicts jsonb[];
    v_leases   tid[];
    v_changes  tasker.task_change[];
    v_tasks    uuid[];
    v_steps    uuid[];
    v_retries  integer;
    v_batched  boolean;
    v_hinted   boolean;
BEGIN
    SELECT array_agg(s.ctid), array_agg(s.state::text), array_agg(v.value), array_agg(l.ctid),
           coalesce(bool_or(s.batch_step_uuid IS NOT NULL), false)
    INTO v_rows, v_states, v_verdicts, v_leases, v_batched
    FROM (
        SELECT DISTINCT ON ((e.value ->> 'step_uuid')::uuid) e.value,
               (e.value ->> 'task_uuid')::uuid AS task_uuid, (e.value ->> 'step_uuid')::uuid AS step_uuid
        FROM jsonb_array_elements(p_verdicts) AS e(value)
        WHERE e.value ->> 'verdict' <> 'none'
        ORDER BY (e.value ->> 'step_uuid')::uuid
    ) v
    CROSS JOIN LATERAL (
        SELECT s.ctid, s.state, s.batch_step_uuid FROM tasker.workflow_steps s
        WHERE s.task_uuid = v.task_uuid AND s.step_uuid = v.step_uuid
          AND (s.state IN ('enqueued_for_orchestration', 'enqueued_as_error_for_orchestration')
               OR (v.value ->> 'verdict' = 'poison' AND s.state IN ('enqueued', 'in_progress')))
        FOR NO KEY UPDATE
    ) s
    LEFT JOIN LATERAL (
        -- Poison alone still finds a lease: every other step was submitted, which ended it.
        SELECT l.ctid FROM tasker.step_leases l
        WHERE s.state = 'in_progress' AND l.task_uuid = v.task_uuid AND l.step_uuid = v.step_uuid
        FOR UPDATE
    ) l ON true;

    v_now := tasker.now();
    WITH verdict AS MATERIALIZED (
        SELECT w.ctid, w.from_state, w.value ->> 'reason' AS reason,
               CASE WHEN w.value ->> 'verdict' = 'poison' THEN jsonb_build_object(
                   'error', jsonb_build_object(
                       'message', w.value ->> 'reason', 'error_type', 'result_processing_error', 'retryable', false,
                       'backtrace', '[]'::jsonb, 'context', '{}'::jsonb),
                   'metadata', '{"retryable": false, "error_type": "result_processing_error"}'::jsonb)
               ELSE nullif(w.value -> 'replacement', 'null') END AS replacement,
               (w.value ->> 'delay_seconds')::double precision AS delay_seconds,
               coalesce((w.value ->> 'forgiven')::boolean, false)::integer AS forgiven,
               coalesce((w.value ->> 'lost')::boolean, false)::integer AS lost,
               CASE w.value ->> 'verdict' WHEN 'complete' THEN 'complete' WHEN 'retry' THEN 'waiting_for_retry'
                                          ELSE 'error' END AS to_state
        FROM unnest(v_rows, v_states, v_verdicts) AS w(ctid, from_state, value)
    ), judged AS (
        UPDATE tasker.workflow_steps s
        SET state = v.to_state, sort_key = s.sort_key + 1, updated_at = v_now,
            completed_at = CASE WHEN v.to_state = 'complete' THEN v_now END,
            next_retry_at = CASE WHEN v.to_state = 'waiting_for_retry'
                                 THEN v_now + make_interval(secs => v.delay_seconds) END,
            backoff_request_seconds = CASE WHEN v.to_state = 'waiting_for_retry' THEN ceil(v.delay_seconds)::integer
                                           ELSE s.backoff_request_seconds END,
            losses = s.losses + v.lost, forgiven_attempts = s.forgiven_attempts + v.forgiven,
            max_attempts = s.max_attempts + v.forgiven
        FROM verdict v
        WHERE s.ctid = v.ctid
        RETURNING s.task_uuid, s.step_uuid, s.sort_key, s.attempts, s.state, v.from_state, v.reason, v.replacement
    ), explained AS (
        -- Its worker may have reported something else.
        INSERT INTO tasker.step_results
               (task_uuid, step_uuid, sort_key, attempt, success, status, result, error, metadata, recorded_at)
        SELECT j.task_uuid, j.step_uuid, j.sort_key, j.attempts, j.state = 'complete',
               CASE WHEN j.state = 'complete' THEN 'completed' ELSE 'error' END,
               coalesce(j.replacement -> 'result', '{}'), nullif(j.replacement -> 'error', 'null'),
               coalesce(j.replacement -> 'metadata', '{}'), v_now
        FROM judged j WHERE j.replacement IS NOT NULL
    ), ended AS (
        DELETE FROM tasker.step_leases l WHERE l.ctid = ANY (v_leases)
    ), recorded AS (
        INSERT INTO tasker.workflow_step_transitions
               (task_uuid, step_uuid, sort_key, from_state, to_state, attempt, metadata, created_at)
        SELECT j.task_uuid, j.step_uuid, j.sort_key, j.from_state, j.state, j.attempts,
               CASE WHEN j.reason IS NOT NULL THEN jsonb_build_object('reason', j.reason) END, v_now
        FROM judged j
    ), counted AS (
        SELECT e.task_uuid, sum((e.state = 'complete')::integer) AS completed,
               sum((e.state = 'error')::integer) AS failed,
               sum((e.state = 'waiting_for_retry')::integer) AS retried, sum((e.state <> '')::integer) AS judged
        FROM (SELECT j.task_uuid, j.state FROM judged j
              UNION ALL
              SELECT DISTINCT (v.value ->> 'task_uuid')::uuid, '' FROM jsonb_array_elements(p_verdicts) AS v(value)) e
        GROUP BY e.task_uuid
    )
    SELECT array_agg(ROW (c.task_uuid, 0, c.completed, c.failed, -c.judged, c.retried)::tasker.task_change),
           sum(c.retried),
           (SELECT array_agg(j.task_uuid) FROM judged j WHERE j.state = 'complete'),
           (SELECT array_agg(j.step_uuid) FROM judged j WHERE j.state = 'complete')
    INTO v_changes, v_retries, v_tasks, v_steps
    FROM counted c;

    IF v_retries > 0 THEN
        v_hinted := tasker.hint_v1('tasker_timer');
    END IF;
    -- An instance of a batch makes room for others, however it ended.
    RETURN tasker.advance_tasks_v1(v_changes, v_tasks, v_steps, v_batched);
END;
$$;
