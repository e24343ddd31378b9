"""Revisions of templates, ready for use."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Generic, TypeVar

from tasker.domain.templates.document import Template
from tasker.persistence.reading.templates import TemplateReader

Prepared = TypeVar("Prepared")

_CAPACITY: Final = 1000


class Revisions(Generic[Prepared]):
    """Reads revisions, has them prepared, and keeps those that were used last: they never change."""

    def __init__(
        self, templates: TemplateReader, prepare: Callable[[bytes, Template], Awaitable[Prepared]]
    ) -> None:
        """`prepare` makes of a revision, known by its digest, what its users need."""
        self._templates = templates
        self._prepare = prepare
        self._known: OrderedDict[bytes, Prepared] = OrderedDict()

    async def get(self, digest: bytes, document: Mapping[str, Any] | None = None) -> Prepared:
        """Return a revision, current or not.

        Args:
            digest: Which one.
            document: Its content, if the caller has read it already.

        Raises:
            LookupError: There is none, which no stored task admits.
        """
        if digest in self._known:
            self._known.move_to_end(digest)
            return self._known[digest]
        if document is None:
            document = await self._templates.revision(digest)
        if document is None:
            raise LookupError(f"template revision {digest.hex()} is gone")
        prepared = await self._prepare(digest, Template.model_validate(document))
        self._known[digest] = prepared
        if len(self._known) > _CAPACITY:
            self._known.popitem(last=False)
        return prepared
