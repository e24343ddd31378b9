-- phase: post
-- What moved the engine's clock in tests; they bring their own.

DROP TABLE tasker.clock;
