"""tasker.v1.WatchService."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

from tasker.orchestration.engine.feed_watch import FeedWatch
from tasker.orchestration.services import updates
from tasker.orchestration.services.watch_query import feed_request
from tasker.rpc.interceptor import ServicerContext
from tasker.rpc.streams import OpenStreams
from tasker.v1 import watch_pb2, watch_pb2_grpc


class WatchService(watch_pb2_grpc.WatchServiceServicer):
    """Watches many tasks with one stream."""

    def __init__(self, watch: FeedWatch, streams: OpenStreams) -> None:
        self._watch = watch
        self._streams = streams

    async def WatchTasks(
        self, request: watch_pb2.WatchTasksRequest, context: ServicerContext
    ) -> AsyncIterator[watch_pb2.WatchTasksResponse]:
        """Stream every committed transition of the tasks that match, from now on or behind a cursor."""
        wanted = feed_request(request)
        with self._streams.one_of(context.peer()):
            async with aclosing(self._watch.watch(wanted)) as story:
                async for told in story:
                    yield updates.response(told)
