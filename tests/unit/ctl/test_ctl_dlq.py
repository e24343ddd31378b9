"""Which entry of the dead letter queue a command means, where there are more than anybody looks through."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasker.ctl.dlq import find_entry
from tasker.ctl.failures import CommandError, ExitCode
from tasker.ctl.prefixes import uuid_prefix
from tasker.domain.errors import DlqEntryNotFoundError
from tasker.v1 import common_pb2, dlq_pb2
from tests.support.commands import tasker
from tests.unit.client.scripted import fails, played, playing, sends
from tests.unit.client.test_client_mending import ENTRY, UPDATED, entry_message

NO_TASK = fails(DlqEntryNotFoundError(task_uuid=ENTRY))


@pytest.mark.parametrize(
    ("more", "within", "pages"),
    [(True, " among the newest 1,000 entries; give the task's uuid", 10), (False, "", 1)],
)
async def test_where_an_entry_was_looked_for_is_told(more: bool, within: str, pages: int) -> None:
    page = dlq_pb2.ListDlqEntriesResponse(
        entries=[entry_message()] * 100,
        pagination=common_pb2.PaginationResponse(next_page_token="more" if more else None),
    )
    async with playing(sends(page)) as (client, service):
        with pytest.raises(CommandError) as caught:
            await find_entry(client, uuid_prefix("ffff0000"))
    assert str(caught.value) == f"no entry's uuid begins with 'ffff0000'{within}"
    assert caught.value.exit_code is ExitCode.NOT_FOUND
    assert len(service.requests) == pages


async def test_an_entry_with_a_whole_uuid_is_updated_however_old_it_is(tmp_path: Path) -> None:
    async with played(NO_TASK, UPDATED) as (address, service):
        ended = await tasker("dlq", "update", str(ENTRY), "--notes", "n", "--address", address, cwd=tmp_path)
    assert ended.code == 0
    _, update = service.requests
    assert (update.dlq_entry_uuid, update.HasField("expected_updated_at")) == (str(ENTRY), False)
