"""Saying how far a step has come, so that it goes on from there after a failure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from tasker.domain.storable import encode_json
from tasker.worker.handlers.cursors import Cursor
from tasker.worker.handlers.results import StepHandlerResult, result_body

#: The mark in a success's metadata that makes it a checkpoint.
CHECKPOINT_YIELD: Final = "checkpoint_yield"

#: What is wrong with a checkpoint that is no further than the one before it, and what to do instead.
NO_FURTHER: Final = (
    "neither its cursor nor items_processed has moved since the last one, so the handler would run for ever; "
    "advance the cursor, or raise RetryableError(..., retry_after=seconds) to wait"
)


def checkpoint_yield(
    cursor: Cursor, items_processed: int, accumulated_results: object = None
) -> StepHandlerResult:
    """Return this from a handler to store how far it has come, and to be called again from there.

    The worker stores it and runs the handler again at once, in the same attempt and with its whole timeout;
    `context.checkpoint_cursor`, `context.checkpoint_items_processed` and `context.accumulated_results` say then
    what was stored. After a failure or a lost worker the next attempt begins with the newest checkpoint.

    Args:
        cursor: Where to go on: a number, a text, an instant or a whole object. It is stored as JSON.
        items_processed: How many items are done, from the very beginning.
        accumulated_results: What was gathered so far, from the very beginning; replaces what was stored before.

    Raises:
        ValueError: The cursor is None, or the count negative.
    """
    if cursor is None:
        raise ValueError("checkpoint_yield needs a cursor; return the step's result when there is none left")
    if items_processed < 0:
        raise ValueError(f"items_processed counts from the beginning, and is {items_processed}")
    body: dict[str, Any] = {
        "type": CHECKPOINT_YIELD,
        "cursor": cursor,
        "items_processed": items_processed,
    }
    if accumulated_results is not None:
        body["accumulated_results"] = accumulated_results
    return StepHandlerResult.success(body, {CHECKPOINT_YIELD: True})


def is_checkpoint(said: StepHandlerResult) -> bool:
    """Tell whether a handler wants to go on instead of being done."""
    notes: object = said.metadata  # an author may have put anything there
    return said.is_success and isinstance(notes, Mapping) and notes.get(CHECKPOINT_YIELD) is True


def checkpoint_text(said: StepHandlerResult) -> str:
    """Return a checkpoint as the JSON text that is stored: cursor, items processed and accumulated results.

    Raises:
        ValueError: It has no cursor or no count, or something in it has no JSON form.
        ResultNotStorableError: PostgreSQL cannot store it, or it is larger than 1 MiB.
    """
    body = result_body(said.result)
    cursor, items = body.get("cursor"), body.get("items_processed")
    if cursor is None:
        raise ValueError("it has no cursor")
    if not isinstance(items, int) or isinstance(items, bool) or items < 0:
        raise ValueError(f"items_processed must be a whole number of items from the beginning, not {items!r}")
    return encode_json(
        {"cursor": cursor, "items_processed": items, "accumulated_results": body.get("accumulated_results")}
    )


def is_no_further(checkpoint: str, before: Mapping[str, Any] | None) -> bool:
    """Tell whether a checkpoint, as JSON text, is where the step's last stored one was.

    A handler that is run again from the same place does the same again, each time with its whole timeout: nothing
    would ever end it. What it has accumulated does not count, since only the two say how far it is.
    """
    if before is None:
        return False
    said = json.loads(checkpoint)
    return all(said[key] == before.get(key) for key in ("cursor", "items_processed"))
