"""The template revisions that claimed steps belong to. A revision never changes, so it is kept for good."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from tasker.domain.templates.document import Step, Template
from tasker.persistence.templates import TemplateStore

_CAPACITY: Final = 1000


class RevisionCache:
    """Finds the template step behind a claimed step, whichever worker registered it."""

    def __init__(self, store: TemplateStore) -> None:
        self._store = store
        self._known: OrderedDict[bytes, tuple[Template, dict[str, Step]]] = OrderedDict()

    async def step(self, digest: bytes, name: str) -> tuple[Template, Step]:
        """Return the template and the step of that name in it.

        Raises:
            LookupError: There is no such revision or step, which only manual surgery can cause.
        """
        if digest not in self._known:
            document = await self._store.revision(digest)
            if document is None:
                raise LookupError(f"template revision {digest.hex()} is not registered")
            template = Template.model_validate(document)
            self._known[digest] = template, {step.name: step for step in template.steps}
            if len(self._known) > _CAPACITY:
                self._known.popitem(last=False)
        template, steps = self._known[digest]
        return template, steps[name]
