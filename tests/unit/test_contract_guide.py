"""What docs/contract.md says about calling is what servers do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from grpc import StatusCode

from tasker.orchestration.services.paging import DEFAULT_LIMIT, MAX_LIMIT
from tasker.rpc.errors import DOMAIN, STATUS_OF
from tasker.rpc.server import ORCHESTRATION_OPTIONS
from tasker.rpc.streams import MOST_STREAMS_OF_CONNECTION
from tests.support.fuzzing import DOCUMENTED

PAGE: Final = (Path(__file__).parents[2] / "docs" / "contract.md").read_text()
TEXT: Final = " ".join(PAGE.split())


def test_every_status_is_in_the_table_of_errors() -> None:
    section = PAGE.split("## Errors")[1].split("Details are")[0]
    rows = re.findall(r"^\| (`[^|]+`) \|", section, re.MULTILINE)
    told = {StatusCode[name] for row in rows for name in re.findall(r"`(\w+)`", row)}
    # Too large messages are refused by grpc itself, and what is in no row of the table of exceptions is INTERNAL.
    assert told == {*STATUS_OF.values(), StatusCode.RESOURCE_EXHAUSTED, StatusCode.INTERNAL}
    assert told > DOCUMENTED - {StatusCode.OK}


def test_the_numbers_are_those_of_the_code() -> None:
    options = ORCHESTRATION_OPTIONS
    assert f"({DEFAULT_LIMIT} if absent, at most {MAX_LIMIT})" in TEXT
    assert f"pings every {options.keepalive_interval_seconds} seconds" in TEXT
    assert f"nobody answers for {options.keepalive_timeout_seconds}." in TEXT
    assert options.min_ping_interval_seconds < 1
    assert f"A connection takes {MOST_STREAMS_OF_CONNECTION} streams" in TEXT
    assert f"({options.max_request_bytes // 1024**2} MiB by default)" in TEXT
    assert f"`domain` is `{DOMAIN}`" in TEXT
