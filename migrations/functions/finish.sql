-- finish_steps_v1: the shortest path of a step: submit results, complete at once those whose task is free, and claim
-- what this makes ready, in one transaction.
-- p_results as submit_by_ids_v1 has them. p_successes names the tasks of the successes among them: of one that is free at
-- this moment and has no failed step the plain successes are completed here; what is left, and all that needs
-- judgement, goes to orchestration's queues. Tasks are locked before steps, and none is waited for.
-- Of the steps that become ready at most p_limit are claimed under p_token, without a message, if their queue is among
-- p_queues and of no paused namespace, and their handler among p_handlers; the others get their message.
-- p_repeated: the reply to the same call may have been lost. Then what that one has claimed is returned again.
-- Returns a row with the accepted steps, and nothing else in it; then one for each claim.
CREATE OR REPLACE FUNCTION tasker.finish_steps_v1(
    p_tasks uuid[], p_steps uuid[], p_tokens uuid[], p_results jsonb, p_successes uuid[], p_repeated boolean,
    p_queues text[], p_limit integer, p_worker uuid, p_token uuid, p_lease interval, p_handlers text[],
    p_hydration_bytes integer
) RETURNS TABLE (
    accepted uuid[],
    task_uuid uuid, step_uuid uuid, name text, template_step_name text, handler text, namespace text,
    template_digest bytea, correlation_id uuid, attempt integer, max_attempts integer, timeout_seconds integer,
    suspect boolean, inputs jsonb, checkpoint jsonb, context jsonb, dependencies jsonb, hydrated boolean)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    v_free      uuid[];
    v_submitted record;
    v_ready     tasker.outbox;
    v_claims    tasker.outbox;
    v_paused    text[];
    v_queues    text[] := p_queues;
    v_claimed   integer;
    v_setting   text;
    v_done      boolean;
BEGIN
    IF p_repeated THEN
        SELECT array_agg(l.task_uuid), array_agg(l.step_uuid) INTO v_claims.tasks, v_claims.steps
        FROM (SELECT DISTINCT t.task_uuid FROM unnest(p_tasks) AS t(task_uuid)) t
        CROSS JOIN LATERAL (
            SELECT l.task_uuid, l.step_uuid FROM tasker.step_leases l
            WHERE l.task_uuid = t.task_uuid AND l.lease_token = p_token
            OFFSET 0
        ) l;
        IF v_claims.steps IS NOT NULL THEN
            accepted := p_steps;
            RETURN NEXT;
            RETURN QUERY
            SELECT NULL::uuid[], c.* FROM tasker.read_claims_v1(v_claims.tasks, v_claims.steps, p_hydration_bytes) c;
            RETURN;
        END IF;
    END IF;

    SELECT array_agg(t.task_uuid) INTO v_free
    FROM (SELECT DISTINCT w.task_uuid FROM unnest(p_successes) AS w(task_uuid) ORDER BY w.task_uuid) w
    CROSS JOIN LATERAL (
        SELECT t.task_uuid FROM tasker.tasks t WHERE t.task_uuid = w.task_uuid AND t.failed_steps = 0
        FOR NO KEY UPDATE SKIP LOCKED
    ) t;

    v_submitted := tasker.submit_by_ids_v1(p_tasks, p_steps, p_tokens, p_results, coalesce(v_free, '{}'));
    accepted := '{}' || v_submitted.steps || v_submitted.complete_steps;
    RETURN NEXT;
    IF v_submitted.complete_steps IS NULL THEN
        v_done := tasker.hint_watchers_v1(true);
    ELSE
        v_ready := tasker.advance_tasks_v1(
            v_submitted.changes, v_submitted.complete_tasks, v_submitted.complete_steps, v_submitted.batched);
    END IF;

    IF v_ready.steps IS NOT NULL AND p_limit > 0 THEN
        v_paused := tasker.paused_queues_v1();
        IF v_paused <> '{}' THEN
            v_queues := ARRAY(SELECT q.queue FROM unnest(p_queues) AS q(queue) WHERE q.queue <> ALL (v_paused));
        END IF;
        IF cardinality(v_ready.steps) <= p_limit AND v_ready.queues <@ v_queues THEN
            v_claims := v_ready;
            v_ready := NULL;
        ELSE
            SELECT array_agg(m.queue) FILTER (WHERE NOT m.mine), array_agg(m.task_uuid) FILTER (WHERE NOT m.mine),
                   array_agg(m.step_uuid) FILTER (WHERE NOT m.mine),
                   array_agg(m.queue) FILTER (WHERE m.mine), array_agg(m.task_uuid) FILTER (WHERE m.mine),
                   array_agg(m.step_uuid) FILTER (WHERE m.mine)
            INTO v_ready.queues, v_ready.tasks, v_ready.steps, v_claims.queues, v_claims.tasks, v_claims.steps
            FROM (
                SELECT m.*, m.queue = ANY (v_queues)
                            AND row_number() OVER (PARTITION BY m.queue = ANY (v_queues)) <= p_limit AS mine
                FROM unnest(v_ready.queues, v_ready.tasks, v_ready.steps) AS m(queue, task_uuid, step_uuid)
            ) m;
        END IF;
        IF v_claims.steps IS NOT NULL THEN
            v_setting := set_config('tasker.claim_waits', 'on', true);  -- the results with it must not be forgotten
            RETURN QUERY
            SELECT NULL::uuid[], c.*
            FROM tasker.claim_by_ids_v1(v_claims.tasks, v_claims.steps, p_handlers, p_worker, p_token, p_lease,
                                        p_hydration_bytes) c;
            GET DIAGNOSTICS v_claimed = ROW_COUNT;
            IF v_claimed < cardinality(v_claims.steps) THEN
                -- Seldom: another worker has to run them.
                SELECT array_agg(m.queue), array_agg(m.task_uuid), array_agg(m.step_uuid)
                INTO v_claims.queues, v_claims.tasks, v_claims.steps
                FROM unnest(v_claims.queues, v_claims.tasks, v_claims.steps) AS m(queue, task_uuid, step_uuid)
                CROSS JOIN LATERAL (
                    SELECT s.state FROM tasker.workflow_steps s
                    WHERE s.task_uuid = m.task_uuid AND s.step_uuid = m.step_uuid LIMIT 1
                ) s
                WHERE s.state = 'enqueued';
                v_done := tasker.send_steps_v1(v_claims);
            END IF;
        END IF;
    END IF;

    v_done := tasker.send_steps_v1(ROW (
        v_submitted.queues || v_ready.queues, v_submitted.tasks || v_ready.tasks, v_submitted.steps || v_ready.steps
    )::tasker.outbox);
END;
$$;
