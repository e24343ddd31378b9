"""Revisions of templates, ready for use."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from tasker.domain.templates.document import Template
from tasker.persistence.reading.templates import TemplateReader

Prepared = TypeVar("Prepared")

_CAPACITY: Final = 1000


@dataclass(slots=True)
class _Kept(Generic[Prepared]):
    prepared: Prepared
    since: float
    hits: int = 0


@dataclass(frozen=True, slots=True)
class KeptRevision:
    """How a revision that is kept was used.

    Attributes:
        age_seconds: Since it was read.
        hits: How often it was asked for since then.
    """

    age_seconds: int
    hits: int


@dataclass(frozen=True, slots=True)
class RevisionStatistics:
    """How much reading is saved.

    Attributes:
        kept: Revisions that are kept now.
        hits: How often one that was kept was asked for.
        misses: How often one had to be read.
        dropped: How often one went to make room.
        oldest_seconds: Since the oldest one that is kept was read.
    """

    kept: int
    hits: int
    misses: int
    dropped: int
    oldest_seconds: int


class Revisions(Generic[Prepared]):
    """Reads revisions, has them prepared, and keeps those that were used last: they never change."""

    def __init__(
        self, templates: TemplateReader, prepare: Callable[[bytes, Template], Awaitable[Prepared]]
    ) -> None:
        """`prepare` makes of a revision, known by its digest, what its users need."""
        self._templates = templates
        self._prepare = prepare
        self._known: OrderedDict[bytes, _Kept[Prepared]] = OrderedDict()
        self._hits = 0
        self._misses = 0
        self._dropped = 0

    async def get(self, digest: bytes, document: Mapping[str, Any] | None = None) -> Prepared:
        """Return a revision, current or not.

        Args:
            digest: Which one.
            document: Its content, if the caller has read it already.

        Raises:
            LookupError: There is none, which no stored task admits.
        """
        if (kept := self._known.get(digest)) is not None:
            self._known.move_to_end(digest)
            kept.hits += 1
            self._hits += 1
            return kept.prepared
        self._misses += 1
        if document is None:
            document = await self._templates.revision(digest)
        if document is None:
            raise LookupError(f"template revision {digest.hex()} is gone")
        prepared = await self._prepare(digest, Template.model_validate(document))
        self._known[digest] = _Kept(prepared, time.monotonic())
        if len(self._known) > _CAPACITY:
            self._known.popitem(last=False)
            self._dropped += 1
        return prepared

    def kept(self, digest: bytes) -> KeptRevision | None:
        """Return how a revision was used, None if it is not kept; that is no use of it."""
        found = self._known.get(digest)
        return None if found is None else KeptRevision(_age(found.since), found.hits)

    def statistics(self) -> RevisionStatistics:
        """Return how much reading was saved so far."""
        since = min((kept.since for kept in self._known.values()), default=time.monotonic())
        return RevisionStatistics(len(self._known), self._hits, self._misses, self._dropped, _age(since))


def _age(since: float) -> int:
    return int(time.monotonic() - since)
