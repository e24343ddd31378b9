"""The handler of the benchmark: no work, a result of about 700 bytes."""

from tasker.worker import step_handler

_RESULT = {"blob": "x" * 680}


@step_handler("bench.work")
async def work() -> dict[str, str]:
    return _RESULT
