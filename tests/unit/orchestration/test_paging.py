"""Listings: what they refuse, named as the caller sees it."""

from __future__ import annotations

import pytest

from tasker.domain.errors import InvalidArgumentError
from tasker.orchestration.services.paging import PageTokens
from tasker.v1.common_pb2 import PaginationRequest


@pytest.mark.parametrize("within", ["", "pagination.", "of_steps.pagination."])
@pytest.mark.parametrize(
    ("request_", "wrong"),
    [
        (PaginationRequest(limit=0), "limit"),
        (PaginationRequest(offset=-1), "offset"),
        (PaginationRequest(offset=1, page_token="a"), "offset"),
        (PaginationRequest(page_token="a"), "page_token"),
    ],
    ids=["limit", "offset", "offset with a token", "token"],
)
def test_fields_are_named_where_the_caller_looks(
    within: str, request_: PaginationRequest, wrong: str
) -> None:
    with pytest.raises(InvalidArgumentError) as refusal:
        PageTokens().listing(b"tasks").page(request_, within=within)
    assert [violation.field for violation in refusal.value.violations] == [f"{within}{wrong}"]
