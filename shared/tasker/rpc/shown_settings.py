"""What both services show of their settings: named one by one, so that nothing is shown because it is new."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from tasker.config.security import SecuritySettings
from tasker.config.settings import Settings
from tasker.rpc.security import Security
from tasker.v1 import config_pb2
from tasker.version import VERSION

#: How work is noticed: by notifications, with polling behind them.
DEPLOYMENT_MODE: Final = "Hybrid"


def metadata(settings: Settings) -> config_pb2.ConfigMetadata:
    """Return when this is said, by which version, in which environment."""
    now = Timestamp()
    now.GetCurrentTime()
    return config_pb2.ConfigMetadata(timestamp=now, environment=settings.environment, version=VERSION)


def auth(settings: SecuritySettings, security: Security) -> config_pb2.SafeAuthConfig:
    """Return how callers prove who they are."""
    if not settings.auth_enabled:
        return config_pb2.SafeAuthConfig(enabled=False, verification_method="none")
    method = "jwks" if settings.jwks_url else "public_key" if settings.verifies_tokens else "none"
    return config_pb2.SafeAuthConfig(
        enabled=True,
        verification_method=method,
        jwt_issuer=settings.jwt_issuer if settings.verifies_tokens else "",
        jwt_audience=settings.jwt_audience if settings.verifies_tokens else "",
        api_key_header=settings.api_key_header,
        api_key_count=security.api_key_count,
        strict_validation=settings.strict_permissions,
        allowed_algorithms=settings.jwt_algorithms if settings.verifies_tokens else (),
    )


def messaging(queues: Sequence[str]) -> config_pb2.SafeMessagingConfig:
    """Return what carries messages, and the queues that a service reads."""
    return config_pb2.SafeMessagingConfig(backend="pgmq", queues=queues)
