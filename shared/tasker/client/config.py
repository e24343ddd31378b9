"""The settings of the service that are safe to show."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from tasker.client.connection import Connection
from tasker.v1 import config_pb2, config_pb2_grpc


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthConfig:
    """How callers prove who they are.

    Attributes:
        enabled: Whether they have to.
        verification_method: How tokens are verified.
        issuer, audience: What tokens must name; empty if nothing.
        api_key_header: Request metadata that carries an API key.
        api_keys: How many there are.
        strict: Whether an unknown permission in a token is an error.
        algorithms: With which tokens may be signed.
    """

    enabled: bool
    verification_method: str
    issuer: str
    audience: str
    api_key_header: str
    api_keys: int
    strict: bool
    algorithms: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceConfig:
    """What a service shows of its settings.

    Attributes:
        version: Version of the service.
        environment: Its TASKER_ENV.
        auth: How callers prove who they are.
        deployment_mode: How work is noticed.
        messaging: What carries messages.
        queues: The queues that the service reads.
        max_connections: Pooled connections that it opens at most.
    """

    version: str
    environment: str
    auth: AuthConfig
    deployment_mode: str
    messaging: str
    queues: tuple[str, ...]
    max_connections: int


class ConfigCalls:
    """The calls of `TaskerClient.config`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def get(self, *, timeout: float | None = None) -> ServiceConfig:
        """Return the settings of the service; none of them is a secret.

        Args:
            timeout: Seconds the call may take; the client's timeout by default.
        """
        answer = await self._connection.call(
            self._stub.GetConfig, config_pb2.GetConfigRequest(), timeout=timeout
        )
        return ServiceConfig(
            version=answer.metadata.version,
            environment=answer.metadata.environment,
            auth=_auth(answer.auth),
            deployment_mode=answer.deployment_mode,
            messaging=answer.messaging.backend,
            queues=tuple(answer.messaging.queues),
            max_connections=answer.database_pools.web_api_max_connections,
        )

    @cached_property
    def _stub(self) -> config_pb2_grpc.ConfigServiceAsyncStub:
        return config_pb2_grpc.ConfigServiceStub(self._connection.channel)


def _auth(message: config_pb2.SafeAuthConfig) -> AuthConfig:
    return AuthConfig(
        enabled=message.enabled,
        verification_method=message.verification_method,
        issuer=message.jwt_issuer,
        audience=message.jwt_audience,
        api_key_header=message.api_key_header,
        api_keys=message.api_key_count,
        strict=message.strict_validation,
        algorithms=tuple(message.allowed_algorithms),
    )
