"""A storm inside PostgreSQL, at its full speed, that a wrong lock order does not survive."""

from __future__ import annotations

import asyncio

import pytest
from psycopg import AsyncConnection

from tasker.persistence.connections import Row
from tests.support.engine import Engine, graph
from tests.support.rivals import (
    assert_history_is_whole,
    assert_nothing_drifted,
    deadlocks,
)

_RESULT = """
    jsonb_build_object(
        'task_uuid', s.task_uuid, 'step_uuid', s.step_uuid, 'lease_token', s.lease_token,
        'success', s.ok, 'status', CASE WHEN s.ok THEN 'completed' ELSE 'failed' END, 'result', '{}'::jsonb,
        'error', CASE WHEN NOT s.ok THEN '{"message": "", "error_type": "x", "retryable": true}'::jsonb END,
        'metadata', '{"retryable": true}'::jsonb)
"""

_SUBMITTED = ", ".join(
    f"ARRAY(SELECT (r ->> '{key}')::uuid FROM jsonb_array_elements(v_json) r)"
    for key in ("task_uuid", "step_uuid", "lease_token")
)

_SUBMIT = f"""
    IF v_json IS NOT NULL THEN
        PERFORM tasker.submit_results_v1({_SUBMITTED}, v_json);
    END IF;
"""

#: What each kind of session does again and again; `v_json` is its one variable.
_SESSIONS = {
    # Claims a lot, in the order of the messages, and submits it in another one. Some leases expire at once.
    "worker": f"""
        SELECT jsonb_agg({_RESULT} ORDER BY random()) INTO v_json FROM (
            SELECT c.task_uuid, c.step_uuid, v_token AS lease_token, random() > 0.1 AS ok
            FROM tasker.claim_steps_v1(
                ARRAY['worker_test_queue'], ARRAY[0]::bigint[], 40, gen_random_uuid(), v_token,
                CASE WHEN random() < 0.5 THEN '0 s' ELSE '30 s' END::interval, ARRAY['work'], '60 s', 65536, NULL) c) s;
        COMMIT;
        {_SUBMIT}
    """,
    # The same on the short way, with what follows.
    "finisher": f"""
        SELECT jsonb_agg({_RESULT} ORDER BY random()) INTO v_json FROM (
            SELECT c.task_uuid, c.step_uuid, v_token AS lease_token, random() > 0.1 AS ok
            FROM tasker.claim_steps_v1(
                ARRAY['worker_test_queue'], ARRAY[0]::bigint[], 40, gen_random_uuid(), v_token, '30 s', ARRAY['work'],
                '60 s', 65536, NULL) c) s;
        COMMIT;
        WHILE v_json IS NOT NULL LOOP
            SELECT jsonb_agg({_RESULT} ORDER BY random()) INTO v_json FROM (
                SELECT f.task_uuid, f.step_uuid, v_token AS lease_token, random() > 0.1 AS ok
                FROM tasker.finish_steps_v1({_SUBMITTED}, v_json, ARRAY(
                        SELECT (r ->> 'task_uuid')::uuid FROM jsonb_array_elements(v_json) r
                        WHERE (r ->> 'success')::boolean), false, ARRAY['worker_test_queue'], 3, gen_random_uuid(),
                    v_token, '30 s', ARRAY['work'], 65536) f WHERE f.step_uuid IS NOT NULL) s;
            COMMIT;
        END LOOP;
    """,
    # Submits what others have claimed, as a late worker does.
    "latecomer": f"""
        SELECT jsonb_agg({_RESULT} ORDER BY random()) INTO v_json FROM (
            SELECT l.*, true AS ok FROM tasker.step_leases l ORDER BY random() LIMIT 40) s;
        COMMIT;
        {_SUBMIT}
    """,
    "heartbeat": """
        PERFORM tasker.renew_leases_v1(
            array_agg(l.task_uuid), array_agg(l.step_uuid), array_agg(l.lease_token), '0 s')
        FROM (SELECT * FROM tasker.step_leases ORDER BY random() LIMIT 40) l;
    """,
    "sweeper": "PERFORM tasker.sweep_leases_v1(40, '30 s');",
    "processor": "PERFORM tasker.process_results_v1(20, 0, NULL);",
    "judge": """
        SELECT jsonb_agg(jsonb_build_object(
            'task_uuid', j.task_uuid, 'step_uuid', j.step_uuid, 'delay_seconds', 0, 'verdict',
            CASE WHEN j.state = 'enqueued_as_error_for_orchestration' THEN 'retry' ELSE 'none' END))
        INTO v_json FROM tasker.take_judgements_v1(20, 0, NULL) j WHERE j.step_uuid IS NOT NULL;
        IF v_json IS NOT NULL THEN PERFORM tasker.apply_verdicts_v1(v_json); END IF;
    """,
    "timer": "PERFORM tasker.fire_timers_v1(20);",
    "reconciler": """
        PERFORM FROM tasker.reconcile_tasks_v1('00000000-0000-0000-0000-000000000000', 20, '0') r
        WHERE r.drift IS NOT NULL;
        ASSERT NOT FOUND, 'counts have drifted';
    """,
    # Delivers messages twice, in another order.
    "repeater": """
        IF (SELECT count(*) FROM pgmq.q_worker_test_queue) < 200 THEN
            INSERT INTO pgmq.q_worker_test_queue (vt, message)
            SELECT clock_timestamp(), jsonb_build_object('v', 1, 'task_uuid', s.task_uuid, 'step_uuid', s.step_uuid)
            FROM tasker.workflow_steps s WHERE s.state = 'enqueued' ORDER BY random() LIMIT 40;
        END IF;
    """,
}

_LOOP = """
DO $$
DECLARE
    v_json  jsonb;
    v_token uuid := gen_random_uuid();
    v_until timestamptz := clock_timestamp() + interval '60 s';
BEGIN
    WHILE EXISTS (SELECT FROM tasker.tasks t WHERE t.terminal_at IS NULL) AND clock_timestamp() < v_until LOOP
        %s
        COMMIT;
    END LOOP;
END $$
"""

_WIDE = graph(
    {"root": [], **{f"leaf_{n}": ["root"] for n in range(8)}, "join": [f"leaf_{n}" for n in range(8)]},
    retry={"max_attempts": 1_000_000},
)


@pytest.mark.own_database
@pytest.mark.timeout(180)
async def test_a_storm_at_full_speed(any_database_url: str) -> None:
    async with Engine(any_database_url) as engine:
        for _ in range(20):
            await engine.create(_WIDE)
        await engine.move_clock(60)

        async def rage(act: str) -> None:
            connection: AsyncConnection[Row] = await AsyncConnection.connect(engine.url, autocommit=True)
            async with connection:
                await connection.execute((_LOOP % act).encode())

        twice = ("worker", "latecomer", "sweeper")
        await asyncio.gather(*(rage(_SESSIONS[kind]) for kind in (*_SESSIONS, *twice)))
        assert await engine.sql("SELECT DISTINCT state FROM tasker.tasks") == [("complete",)]
        await assert_history_is_whole(engine)
        await assert_nothing_drifted(engine)
        assert not await engine.sql("SELECT 1 FROM tasker.poison_messages")
    assert await deadlocks(any_database_url) == 0
