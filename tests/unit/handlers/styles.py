"""One body, written in each style of handler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tasker.worker import StepContext, StepHandler, step_handler

Make = Callable[[Callable[[], Any]], Any]


def as_function(body: Callable[[], Any]) -> Any:
    @step_handler("styled", version="2.1.0")
    def handler() -> Any:
        return body()

    return handler


def as_async_function(body: Callable[[], Any]) -> Any:
    @step_handler("styled", version="2.1.0")
    async def handler() -> Any:
        return body()

    return handler


def as_class(body: Callable[[], Any]) -> Any:
    class Styled(StepHandler):
        handler_name = "styled"
        handler_version = "2.1.0"

        def call(self, context: StepContext) -> Any:
            return body()

    return Styled


def as_async_class(body: Callable[[], Any]) -> Any:
    class Styled(StepHandler):
        handler_name = "styled"
        handler_version = "2.1.0"

        async def call(self, context: StepContext) -> Any:
            return body()

    return Styled


styles = pytest.mark.parametrize("make", [as_function, as_async_function, as_class, as_async_class])
