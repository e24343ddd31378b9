"""Replies that every client can read: what is too much for one ends early, or is left out with a word."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, TypeVar

from google.protobuf.message import Message

from tasker.v1 import tasks_pb2

#: The largest reply. Clients read 4 MiB unless told otherwise; the rest is for what frames the parts.
REPLY_BYTES: Final = 4 * 1024 * 1024 - 64 * 1024
#: JSON text from here on comes without a Struct beside it, which says the same in up to six times as many bytes.
STRUCT_JSON_BYTES: Final = 256 * 1024
#: The same for a task's context, where three Structs stand beside the text.
CONTEXT_STRUCT_JSON_BYTES: Final = 64 * 1024

Part = TypeVar("Part", bound=Message)


def fitting(parts: Iterable[Part], room: int = REPLY_BYTES) -> list[Part]:
    """Return the parts of a reply up to the first that it has no room for; the first of all comes always."""
    taken: list[Part] = []
    for part in parts:
        room -= _size(part)
        if room < 0 and taken:
            break
        taken.append(part)
    return taken


def within(parts: Iterable[Part], room: int, *, lightened: Callable[[Part], Part]) -> list[Part]:
    """Return the parts of a reply up to the first that it has no room for, as many of them whole as it has room for.

    Args:
        parts: All of them, whole.
        room: How many bytes they may take.
        lightened: Returns a part without what can be left out of it, and with a word about that.
    """
    taken: list[Part] = []
    parts = list(parts)
    bare = sum(_size(lightened(part)) for part in parts)
    for part in parts:
        light = lightened(part)
        extra = _size(part) - _size(light)
        if bare + extra <= room:
            bare += extra
            light = part
        taken.append(light)
    return taken if bare <= room else fitting(taken, room)


def steps_within(steps: Iterable[tasks_pb2.Step], room: int) -> list[tasks_pb2.Step]:
    """Return the steps of a reply up to the first that it has no room for, with as many of their results as it has."""
    return within(steps, room, lightened=_without_results)


def _without_results(step: tasks_pb2.Step) -> tasks_pb2.Step:
    if not step.HasField("results_json"):
        return step
    light = tasks_pb2.Step()
    light.CopyFrom(step)
    light.ClearField("results")
    light.ClearField("results_json")
    light.results_omitted = True
    return light


def _size(part: Message) -> int:
    """Return the bytes that a part takes in a reply, its tag and length included."""
    return part.ByteSize() + 6
