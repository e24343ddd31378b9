"""Tasker's handlers: no work, a result of about 700 bytes; and a split in a hundred."""

from tasker.worker import BatchConfig, batch_analyzer, step_handler

_RESULT = {"blob": "x" * 680}


@step_handler("bench.work")
async def work() -> dict[str, str]:
    return _RESULT


@batch_analyzer("bench.split_in_hundred")
async def split() -> BatchConfig:
    return BatchConfig(total_items=100)
