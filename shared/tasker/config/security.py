"""Settings of who may call the services and how what they say is kept from others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import NoDecode

TokenAlgorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384"]


def _listed(value: Any) -> Any:
    """Return the items of a text with commas between them."""
    return [item.strip() for item in value.split(",") if item.strip()] if isinstance(value, str) else value


class SecuritySettings(BaseModel):
    """Authentication, permissions and TLS; the same for both services."""

    auth_enabled: bool = Field(False, validation_alias="TASKER_AUTH_ENABLED")
    strict_permissions: bool = Field(True, validation_alias="TASKER_AUTH_STRICT_PERMISSIONS")
    enforce_context_read: bool = Field(True, validation_alias="TASKER_ENFORCE_CONTEXT_READ")

    jwt_public_key: str | None = Field(None, validation_alias="TASKER_JWT_PUBLIC_KEY")
    jwt_public_key_path: Path | None = Field(None, validation_alias="TASKER_JWT_PUBLIC_KEY_PATH")
    jwks_url: str | None = Field(None, validation_alias="TASKER_JWKS_URL")
    jwks_refresh_seconds: float = Field(
        3600, validation_alias="TASKER_JWKS_REFRESH_SECONDS", ge=10, le=86_400
    )
    jwks_max_stale_seconds: float = Field(
        300, validation_alias="TASKER_JWKS_MAX_STALE_SECONDS", ge=0, le=86_400
    )
    jwks_allow_http: bool = Field(False, validation_alias="TASKER_JWKS_ALLOW_HTTP")
    jwks_allow_private_hosts: bool = Field(False, validation_alias="TASKER_JWKS_ALLOW_PRIVATE_HOSTS")
    jwt_issuer: str = Field("tasker-core", validation_alias="TASKER_JWT_ISSUER", min_length=1)
    jwt_audience: str = Field("tasker-api", validation_alias="TASKER_JWT_AUDIENCE", min_length=1)
    jwt_algorithms: Annotated[tuple[TokenAlgorithm, ...], NoDecode, BeforeValidator(_listed)] = Field(
        ("RS256", "ES256"), validation_alias="TASKER_JWT_ALGORITHMS", min_length=1
    )
    jwt_leeway_seconds: float = Field(60, validation_alias="TASKER_JWT_LEEWAY_SECONDS", ge=0, le=600)
    jwt_permissions_claim: str = Field(
        "permissions", validation_alias="TASKER_JWT_PERMISSIONS_CLAIM", min_length=1
    )

    api_keys: SecretStr | None = Field(None, validation_alias="TASKER_API_KEYS")
    api_keys_file: Path | None = Field(None, validation_alias="TASKER_API_KEYS_FILE")
    api_key_header: str = Field(
        "x-api-key", validation_alias="TASKER_API_KEY_HEADER", pattern=r"^[A-Za-z0-9._-]+$"
    )

    tls_enabled: bool | None = Field(None, validation_alias="TASKER_TLS_ENABLED")
    tls_cert_path: Path | None = Field(None, validation_alias="TASKER_TLS_CERT_PATH")
    tls_key_path: Path | None = Field(None, validation_alias="TASKER_TLS_KEY_PATH")
    tls_client_ca_path: Path | None = Field(None, validation_alias="TASKER_TLS_CLIENT_CA_PATH")

    reflection_enabled: bool = Field(True, validation_alias="TASKER_REFLECTION_ENABLED")

    @property
    def verifies_tokens(self) -> bool:
        """Whether tokens can be good, and not only API keys."""
        return any((self.jwt_public_key, self.jwt_public_key_path, self.jwks_url))

    @property
    def uses_tls(self) -> bool:
        """Whether the services speak TLS: if told so, or if they are given a certificate."""
        return self.tls_cert_path is not None if self.tls_enabled is None else self.tls_enabled

    @model_validator(mode="after")
    def _can_verify(self) -> Self:
        if self.auth_enabled and not (self.verifies_tokens or self.api_keys or self.api_keys_file):
            raise ValueError(
                "TASKER_AUTH_ENABLED is true, and nothing tells whom to let in; set TASKER_JWT_PUBLIC_KEY_PATH, "
                "TASKER_JWKS_URL or TASKER_API_KEYS_FILE"
            )
        if self.jwks_url and (self.jwt_public_key or self.jwt_public_key_path):
            raise ValueError(
                "TASKER_JWKS_URL and TASKER_JWT_PUBLIC_KEY(_PATH) are both set; tokens are verified by one of them"
            )
        return self

    @model_validator(mode="after")
    def _can_speak_tls(self) -> Self:
        given = (self.tls_cert_path, self.tls_key_path)
        if self.uses_tls and None in given:
            raise ValueError("TLS needs both TASKER_TLS_CERT_PATH and TASKER_TLS_KEY_PATH")
        if (
            self.tls_enabled is None
            and given[0] is None
            and any((self.tls_key_path, self.tls_client_ca_path))
        ):
            raise ValueError(
                "TASKER_TLS_KEY_PATH and TASKER_TLS_CLIENT_CA_PATH need TASKER_TLS_CERT_PATH beside them"
            )
        return self
