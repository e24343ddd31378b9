-- The engine's clock. What a function writes it reads after it has its locks, so that instants follow the order of
-- commits; what it only compares with it may read before. Tests put a clock that they can move in its place.
-- In SQL, so that whoever calls it has it inlined: a step reads it seven times.
CREATE OR REPLACE FUNCTION tasker.now() RETURNS timestamptz
LANGUAGE sql VOLATILE PARALLEL RESTRICTED AS 'SELECT clock_timestamp()';
