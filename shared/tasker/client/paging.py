"""Going through the pages of a listing."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Protocol, TypeVar

from tasker.client.fields import optional
from tasker.v1 import common_pb2


class Paged(Protocol):
    """An answer that is one page of several."""

    @property
    def pagination(self) -> common_pb2.PaginationResponse:
        """What the page is part of."""


Answer = TypeVar("Answer", bound=Paged)


async def pages(
    fetch: Callable[[common_pb2.PaginationRequest], Awaitable[Answer]], *, size: int
) -> AsyncGenerator[Answer, None]:
    """Yield one page after the other, each fetched when it is needed.

    Args:
        fetch: Asks for a page.
        size: How many rows a page has at most.
    """
    token: str | None = None
    while True:
        answer = await fetch(common_pb2.PaginationRequest(limit=size, page_token=token))
        yield answer
        if (token := optional(answer.pagination, "next_page_token")) is None:
            return
