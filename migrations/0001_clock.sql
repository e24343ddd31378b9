-- phase: pre
-- The engine's clock. Every function reads it once, after it holds its locks, so that the instants it
-- writes follow the order of commits. Tests move it by updating `shift`; production leaves it at zero.

CREATE TABLE tasker.clock (
    only_row boolean  PRIMARY KEY DEFAULT true CHECK (only_row),
    shift    interval NOT NULL DEFAULT '0'
);
INSERT INTO tasker.clock DEFAULT VALUES;

-- plpgsql, not sql: its plan is kept for the session.
CREATE FUNCTION tasker.now() RETURNS timestamptz
LANGUAGE plpgsql VOLATILE PARALLEL RESTRICTED AS $$
BEGIN
    RETURN clock_timestamp() + (SELECT c.shift FROM tasker.clock c);
END;
$$;
