-- The engine's clock. What a function writes it reads after it has its locks, so that instants follow
-- the order of commits; what it only compares with it may read before. Tests move it by updating `shift`; production
-- leaves it at zero. plpgsql, not sql: its plan is kept for the session.
CREATE OR REPLACE FUNCTION tasker.now() RETURNS timestamptz
LANGUAGE plpgsql VOLATILE PARALLEL RESTRICTED AS $$
BEGIN
    RETURN clock_timestamp() + (SELECT c.shift FROM tasker.clock c);
END;
$$;
