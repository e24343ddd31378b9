-- The engine's clock. Every function reads it once, after it has its locks, so that the instants it
-- writes follow the order of commits. Tests move it by updating `shift`; production leaves it at zero.
-- plpgsql, not sql: its plan is kept for the session.
CREATE OR REPLACE FUNCTION tasker.now() RETURNS timestamptz
LANGUAGE plpgsql VOLATILE PARALLEL RESTRICTED AS $$
BEGIN
    RETURN clock_timestamp() + (SELECT c.shift FROM tasker.clock c);
END;
$$;
