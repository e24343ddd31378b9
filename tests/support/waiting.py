"""Waiting for facts, with a patience that only guards against hanging."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

#: Longer than anything here takes, shorter than the timeout of a test.
PATIENCE_SECONDS = 30.0

_POLL_SECONDS = 0.02


async def until(
    condition: Callable[[], object | Awaitable[object]], *, seconds: float = PATIENCE_SECONDS, what: str = ""
) -> Any:
    """Look until the condition holds, and return what it returned."""
    found: object = None
    try:
        async with asyncio.timeout(seconds):
            while True:
                found = condition()
                if isinstance(found, Awaitable):
                    found = await found
                if found:
                    return found
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError:
        raise AssertionError(f"{what or 'the condition'} did not come true within {seconds:g} s") from None


async def within(awaitable: Awaitable[Any], *, seconds: float = PATIENCE_SECONDS) -> Any:
    """Wait for something that must come soon."""
    return await asyncio.wait_for(awaitable, seconds)
