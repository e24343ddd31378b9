"""What the workers of these tests run; they read nothing but this file."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from tasker.worker import StepContext, step_handler


@step_handler("work")
async def work(context: StepContext) -> dict[str, Any]:
    """Take long enough to be killed in the middle."""
    await asyncio.sleep(0.02)
    return {
        "step": context.step_name,
        "attempt": context.attempt,
        "parents": sorted(context.dependency_results),
    }


@step_handler("hang_once")
async def hang_once(context: StepContext) -> dict[str, Any]:
    """Tell that it runs, and end at the second attempt only."""
    (Path(os.environ["CHAOS_FOLDER"]) / f"{context.step_name}-{context.attempt}").touch()
    if context.attempt == 1:
        await asyncio.Event().wait()
    return {"attempt": context.attempt}
