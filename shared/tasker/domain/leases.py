"""How long a worker may be silent before its steps run elsewhere."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

#: The life of a lease, whatever the step's timeout.
LEASE: Final = timedelta(seconds=30)
#: How often a worker renews all its leases, in one statement.
LEASE_RENEWAL: Final = timedelta(seconds=10)
