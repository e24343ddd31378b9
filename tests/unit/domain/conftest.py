"""Property tests on a shared machine: no deadlines, the timeout of the suite is enough."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("domain", deadline=None)
settings.load_profile("domain")
