"""Whatever is sent to whatever method: a documented status, memory that stays flat, and a service that goes on.

`make fuzz` runs this for FUZZ_SECONDS, with FUZZ_SEED; otherwise a number of calls decides.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator
from itertools import chain as joined
from typing import Final

import pytest

from tests.support.clients import Client, Update
from tests.support.engine import chain
from tests.support.fleet import Fleet
from tests.support.fuzzed_messages import Lore
from tests.support.fuzzing import Fuzzer, Report

SECONDS: Final = float(os.environ.get("FUZZ_SECONDS", "0"))
#: Of each server, if no time is given.
CALLS: Final = 1200
MIB: Final = 1024 * 1024
#: What a service may have more once it has had some of the requests for a second time. What the largest of them take
#: for a moment, and the allocator keeps, it has had by then; what each left behind would come on top.
GAINED_BYTES: Final = 192 * MIB

CALM = chain(2) | {"name": "calm", "namespace_name": "calm"}
TEMPLATES = (chain(2), chain(1) | {"name": "strict", "identity_strategy": "strict"}, CALM)
GROWN = tuple(chain(n) | {"name": "grown", "version": f"{n}.0.0"} for n in (1, 2))
KNOWN = {
    "document": [json.dumps(document) for document in (*TEMPLATES[:2], *GROWN)],
    "namespace": ["test"],
    "name": ["workflow", "strict", "grown"],
    "version": ["1.0.0", ""],
    "performed_by": ["ada"],
    "reason": ["because"],
    "service": ["", "tasker.v1.TaskService"],
}


def part(share: float) -> Callable[[int], bool]:
    """Return what tells a fuzzer whether a part of the run is not over yet."""
    until = time.monotonic() + SECONDS * share
    return lambda number: time.monotonic() < until if SECONDS else number < CALLS * share


@pytest.mark.own_database
@pytest.mark.timeout(120 + 2 * SECONDS)
async def test_no_request_brings_an_undocumented_answer_or_keeps_memory(database_url: str) -> None:
    seed = os.environ.get("FUZZ_SEED") or secrets.token_hex(4)
    async with Fleet(database_url, templates=TEMPLATES) as fleet:
        (orchestrator,), (worker,) = fleet.orchestrators, fleet.workers
        lore = Lore(KNOWN, secret=frozenset({"calm"}))
        async with (
            Fuzzer(orchestrator.address, f"{seed}:orchestration", lore) as first,
            Fuzzer(worker.address, f"{seed}:worker", lore) as second,
        ):
            await asyncio.gather(*(fuzzer.run(part(2 / 3)) for fuzzer in (first, second)))
            before = [process.resident_bytes for process in fleet.processes]
            await asyncio.gather(*(fuzzer.run(part(1 / 3)) for fuzzer in (first, second)))  # the same again
            after = [process.resident_bytes for process in fleet.processes]
        print("\n".join(told(seed, first.report, second.report, before, after)))  # noqa: T201 - shown by make fuzz
        for fuzzer in (first, second):
            assert fuzzer.report.findings == []
            answered = {method for method, _ in fuzzer.report.answers}
            assert answered == {method.full_name for method in fuzzer.methods}
        for process, earlier, later in zip(fleet.processes, before, after, strict=True):
            assert later - earlier < GAINED_BYTES, process.name
            assert process.is_running
        async with Client(orchestrator.address) as client, Client(worker.address) as probes:
            assert await client.serving()
            assert await probes.serving()
            task = await client.create(name="calm", namespace="calm")
            updates = await client.watch(task.task_uuid)
            assert updates[-1].update_type == Update.UPDATE_TYPE_TASK_COMPLETE


def told(seed: str, first: Report, second: Report, before: list[int], after: list[int]) -> Iterator[str]:
    """Say what was done, for whoever runs this by hand."""
    for name, report in (("orchestration", first), ("worker", second)):
        codes = ", ".join(f"{code.name} {count}" for code, count in report.codes().most_common())
        yield f"seed {seed}, {name}: {report.calls} calls; {codes}"
    for name, earlier, later in zip(("orchestration", "worker"), before, after, strict=True):
        yield f"{name}: {earlier // MIB} MiB before the repetition, {later // MIB} MiB at the end"
    yield from joined(first.summary(), second.summary())
