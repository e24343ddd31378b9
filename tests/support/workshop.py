"""Handlers that note their calls and behave as the test says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from tasker.worker import HandlerRegistry, StepContext

Behaviour = Callable[[StepContext], object]


@dataclass
class Workshop:
    """Handlers that note their calls and behave as the test says.

    Attributes:
        behaviours: What the handler `work` does, by step name; by default it returns `{"step": name}`.
        calls: What it was called with, in order.
    """

    behaviours: dict[str, Behaviour] = field(default_factory=dict)
    calls: list[StepContext] = field(default_factory=list)
    registry: HandlerRegistry = field(default_factory=HandlerRegistry)

    def __post_init__(self) -> None:
        async def work(context: StepContext) -> Any:
            self.calls.append(context)
            behaviour = self.behaviours.get(context.step_name)
            returned = behaviour(context) if behaviour else {"step": context.step_name}
            return await returned if isinstance(returned, Awaitable) else returned

        self.registry.register(work, name="work")


class Gate:
    """A behaviour that tells that it runs, and goes on when it is let."""

    def __init__(self, result: object = None) -> None:
        self.entered = asyncio.Event()
        self.opened = asyncio.Event()
        self.cancelled = asyncio.Event()
        self._result = {} if result is None else result

    async def __call__(self, context: StepContext) -> object:
        self.entered.set()
        try:
            await self.opened.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return self._result
