-- What a finished task left behind, many times over: each copy is the task as if it had been done earlier.
-- Ids and instants are moved by the same time, so they keep their order; everything else is as the engine wrote it.

CREATE FUNCTION pg_temp.earlier(p_uuid uuid, p_ms bigint) RETURNS uuid
LANGUAGE sql IMMUTABLE AS $$
    SELECT (lpad(to_hex(('x' || left(replace(p_uuid::text, '-', ''), 12))::bit(48)::bigint - p_ms), 12, '0')
            || substr(replace(p_uuid::text, '-', ''), 13))::uuid
$$;

-- Copy the rows that a table holds of p_task: p_first to p_last times, p_gap_ms apart, the oldest first.
CREATE FUNCTION pg_temp.copy_rows(p_table text, p_task uuid, p_first bigint, p_last bigint, p_gap_ms bigint)
RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_columns text;
    v_values  text;
BEGIN
    SELECT string_agg(quote_ident(c.column_name), ', ' ORDER BY c.ordinal_position),
           string_agg(CASE
               WHEN c.column_name IN ('named_task_uuid', 'worker_uuid') THEN format('r.%I', c.column_name)
               WHEN c.udt_name = 'uuid' THEN format('pg_temp.earlier(r.%I, n * $2)', c.column_name)
               WHEN c.udt_name = '_uuid'
               THEN format('ARRAY(SELECT pg_temp.earlier(u, n * $2) FROM unnest(r.%I) u)', c.column_name)
               WHEN c.udt_name = 'timestamptz'
               THEN format('r.%I - make_interval(secs => n * $2 / 1000.0)', c.column_name)
               ELSE format('r.%I', c.column_name) END, ', ' ORDER BY c.ordinal_position)
    INTO v_columns, v_values
    FROM information_schema.columns c WHERE c.table_schema = 'tasker' AND c.table_name = p_table;
    EXECUTE format(
        'INSERT INTO tasker.%1$I (%2$s) SELECT %3$s FROM generate_series($3, $4, -1) n '
        'CROSS JOIN LATERAL (SELECT * FROM tasker.%1$I r WHERE r.task_uuid = $1 OFFSET 0) r',
        p_table, v_columns, v_values) USING p_task, p_gap_ms, p_last, p_first;
END;
$$;
