"""What calls of DlqService ask for, in the engine's terms; all mistakes of a request are told at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from tasker.domain.dlq import DlqReason, ResolutionStatus
from tasker.domain.errors import FieldViolation, InvalidArgumentError
from tasker.domain.uuids import parse_uuid
from tasker.orchestration.services import json_input, parse, render_dlq
from tasker.orchestration.services.paging import Listing, Page
from tasker.v1 import common_pb2, dlq_pb2

_STATUSES: Final = {number: status for status, number in render_dlq.STATUSES.items()}
_REASONS: Final = {number: reason for reason, number in render_dlq.REASONS.items()}

PagedRequest = (
    dlq_pb2.ListDlqEntriesRequest
    | dlq_pb2.GetDlqInvestigationQueueRequest
    | dlq_pb2.GetStalenessMonitoringRequest
)


@dataclass(frozen=True, slots=True)
class WantedEntries:
    """Which entries to list; None is no condition."""

    status: ResolutionStatus | None
    reason: DlqReason | None


@dataclass(frozen=True, slots=True)
class EntryUpdate:
    """What to change about an entry; None keeps what is there.

    Attributes:
        expected_updated_at: The entry as the caller knows it.
    """

    dlq_entry_uuid: UUID
    status: ResolutionStatus | None
    notes: str | None
    resolved_by: str | None
    metadata: dict[str, Any] | None
    expected_updated_at: datetime | None


def wanted_entries(request: dlq_pb2.ListDlqEntriesRequest) -> WantedEntries:
    """Return which entries a request asks for; as published, a status that is none is no filter.

    Raises:
        InvalidArgumentError: The reason is none.
    """
    if request.dlq_reason and request.dlq_reason not in _REASONS:
        raise InvalidArgumentError.of(
            "dlq_reason", f"{request.dlq_reason} is not one of {_choices(render_dlq.REASONS)}"
        )
    return WantedEntries(_STATUSES.get(request.resolution_status), _REASONS.get(request.dlq_reason))


def page(listing: Listing, request: PagedRequest) -> Page:
    """Return the page that a request asks for, be it by `pagination` or by the fields that were there before it.

    Raises:
        InvalidArgumentError: They are given both, or out of range.
    """
    older = [field.name for field, _ in request.ListFields() if field.name in ("limit", "offset")]
    if not request.HasField("pagination"):
        asked = common_pb2.PaginationRequest(**{name: getattr(request, name) for name in older})
        return listing.page(asked, within="")
    if older:
        problem = "does not go with pagination, which has its own"
        raise InvalidArgumentError(FieldViolation(name, f"{problem} {name}; leave it out") for name in older)
    return listing.page(request.pagination)


def entry_update(request: dlq_pb2.UpdateDlqInvestigationRequest) -> EntryUpdate:
    """Return what a request wants changed.

    Raises:
        InvalidArgumentError: With everything that is wrong.
    """
    problems: list[FieldViolation] = []
    dlq_entry_uuid = parse.readable(
        problems, lambda: parse_uuid(request.dlq_entry_uuid, field="dlq_entry_uuid")
    )
    if request.HasField("resolution_status") and request.resolution_status not in _STATUSES:
        problem = f"{request.resolution_status} is not one of {_choices(render_dlq.STATUSES)}; leave it out to keep it"
        problems.append(FieldViolation("resolution_status", problem))
    metadata = expected = None
    if request.HasField("metadata"):
        metadata = parse.readable(problems, lambda: json_input.struct(request.metadata, "metadata"))
    if request.HasField("expected_updated_at"):
        expected = parse.readable(
            problems, lambda: parse.instant(request.expected_updated_at, "expected_updated_at")
        )
    if problems or dlq_entry_uuid is None:
        raise InvalidArgumentError(problems)
    return EntryUpdate(
        dlq_entry_uuid,
        _STATUSES.get(request.resolution_status),
        request.resolution_notes if request.HasField("resolution_notes") else None,
        request.resolved_by if request.HasField("resolved_by") else None,
        metadata,
        expected,
    )


def _choices(numbers: Mapping[Any, int]) -> str:
    return ", ".join(f"{number} {name.upper()}" for name, number in numbers.items())
