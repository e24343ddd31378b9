"""What both services show of their settings: named one by one, so that nothing is shown because it is new."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from tasker.config.settings import Settings
from tasker.v1 import config_pb2
from tasker.version import VERSION

#: How work is noticed: by notifications, with polling behind them.
DEPLOYMENT_MODE: Final = "Hybrid"


def metadata(settings: Settings) -> config_pb2.ConfigMetadata:
    """Return when this is said, by which version, in which environment."""
    now = Timestamp()
    now.GetCurrentTime()
    return config_pb2.ConfigMetadata(timestamp=now, environment=settings.environment, version=VERSION)


def auth(settings: Settings) -> config_pb2.SafeAuthConfig:
    """Return how callers prove who they are."""
    return config_pb2.SafeAuthConfig(enabled=False, verification_method="none")


def messaging(queues: Sequence[str]) -> config_pb2.SafeMessagingConfig:
    """Return what carries messages, and the queues that a service reads."""
    return config_pb2.SafeMessagingConfig(backend="pgmq", queues=queues)
