-- phase: pre
-- What moves the engine's clock: tests update `shift`, production leaves it at zero.

CREATE TABLE tasker.clock (
    only_row boolean  PRIMARY KEY DEFAULT true CHECK (only_row),
    shift    interval NOT NULL DEFAULT '0'
);
INSERT INTO tasker.clock DEFAULT VALUES;
