"""The listing of a task's steps, which GetTask begins and ListSteps goes on with."""

from __future__ import annotations

import itertools
from uuid import UUID

from tasker.orchestration.services import render
from tasker.orchestration.services.paging import Listing, Page, PageTokens
from tasker.orchestration.services.sizing import REPLY_BYTES, fitting, steps_within
from tasker.persistence.reading.tasks import StepPage, TaskReader
from tasker.v1 import common_pb2, steps_pb2, tasks_pb2


def step_listing(tokens: PageTokens, task_uuid: UUID) -> Listing:
    """Return the listing of a task's steps."""
    return tokens.listing(b"steps", task_uuid.bytes)


def place_of_step(step: tasks_pb2.Step) -> list[str]:
    """Return what places a step in it, as JSON."""
    return [step.step_uuid]


async def steps_page(
    reader: TaskReader, task_uuid: UUID, listing: Listing, page: Page
) -> steps_pb2.ListStepsResponse:
    """Return a page, which ends before the first step that it has no room for, results included."""
    after = UUID(page.after[0]) if page.after else None
    found = await reader.steps(task_uuid, after=after, skip=page.skip, limit=page.limit + 1)
    whole = itertools.takewhile(lambda step: not step.results_omitted, found.steps[: page.limit])
    steps = fitting(map(render.step, whole))
    more = len(found.steps) > len(steps)
    return steps_pb2.ListStepsResponse(
        steps=steps, pagination=listing.reply(page, found.total, steps, more=more, key=place_of_step)
    )


def all_steps(found: StepPage, listing: Listing) -> steps_pb2.ListStepsResponse:
    """Return all steps at once, with as many of their results as there is room for."""
    steps = steps_within(map(render.step, found.steps), REPLY_BYTES)
    if len(steps) < len(found.steps):
        pagination = listing.reply(Page(len(steps)), found.total, steps, more=True, key=place_of_step)
    else:
        pagination = common_pb2.PaginationResponse(total=found.total, count=len(steps))
    return steps_pb2.ListStepsResponse(steps=steps, pagination=pagination)
