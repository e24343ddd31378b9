"""What a module defines when it is imported, whether a name of it holds that or not.

```python
for currency in ("eur", "usd"):
    step_handler(f"shop.pay_{currency}")(partial_for(currency))
```

No attribute of the module leads to these functions. So what decorates functions and derives classes notes them in the
globals of the module whose body does so: nothing is kept for longer than the module, and nothing is registered.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from types import ModuleType
from typing import Final

_NOTES: Final = "__tasker_definitions__"


@dataclass(slots=True)
class _Notes:
    """What one execution of a module's body has defined; importing it again makes a new spec, and begins anew."""

    spec: object
    definitions: list[object] = field(default_factory=list)


def note(definition: object) -> None:
    """Note a handler that the caller's caller defines, if a module's body leads there."""
    frame = sys._getframe(2)
    while frame.f_code.co_name != "<module>":
        if frame.f_back is None:
            return
        frame = frame.f_back
    module = frame.f_globals
    # What a running program defines, in a test or in a handler, is its own affair: the body of its first module lasts
    # for as long as it does.
    if module.get("__name__") == "__main__":
        return
    notes = module.get(_NOTES)
    if not isinstance(notes, _Notes) or notes.spec is not module.get("__spec__"):
        notes = module[_NOTES] = _Notes(module.get("__spec__"))
    notes.definitions.append(definition)


def definitions_of(module: ModuleType) -> list[object]:
    """Return what a module's body has defined, in its order."""
    notes = vars(module).get(_NOTES)
    return list(notes.definitions) if isinstance(notes, _Notes) else []
