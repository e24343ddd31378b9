"""The type of the context that grpc hands to servicers."""

from __future__ import annotations

from typing import Any, TypeAlias

from grpc import aio

#: Generic for type checkers only, hence the quotes. The messages are named by the method's own signature.
ServicerContext: TypeAlias = "aio.ServicerContext[Any, Any]"
