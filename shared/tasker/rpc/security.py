"""What keeps a server's callers apart and their calls private, made of its settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tasker.config.security import SecuritySettings
from tasker.domain.addresses import is_local
from tasker.rpc.authentication import Authenticator
from tasker.rpc.key_files import Reloaded, read_key_file
from tasker.telemetry.logs import get_logger

if TYPE_CHECKING:
    from tasker.rpc.credentials.api_keys import ApiKeys
    from tasker.rpc.credentials.public_keys import VerificationKeys
    from tasker.rpc.credentials.refusals import Granting
    from tasker.rpc.credentials.tokens import TokenVerifier
    from tasker.rpc.tls import TlsFiles

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Security:
    """Of one server.

    Attributes:
        authenticator: Finds out who calls; without it everybody may do everything.
        tls: Its certificate; without it everybody on the way can read and change what is said.
    """

    authenticator: Authenticator | None = None
    tls: TlsFiles | None = None

    @property
    def api_key_count(self) -> int:
        """How many API keys are accepted now."""
        return self.authenticator.api_key_count if self.authenticator is not None else 0


OPEN: Final = Security()


def security_of(settings: SecuritySettings) -> Security:
    """Return what settings ask for.

    Raises:
        KeyFileError: A file or text of keys cannot be used.
        KeySetError: The URL of the key set is not one.
    """
    # Imported where it is needed: most of it stands on libraries that a service without it should not pay for.
    return Security(
        authenticator=_authenticator(settings) if settings.auth_enabled else None,
        tls=_tls(settings) if settings.uses_tls else None,
    )


def warn_if_exposed(address: str, security: Security) -> None:
    """Say in the log that others can reach a server which does not protect itself.

    Args:
        address: Where it listens.
        security: How it does.
    """
    if is_local(address):
        return
    if security.authenticator is None:
        _log.warning(
            "server_lets_everybody_in",
            address=address,
            advice="whoever reaches this address may do everything; set TASKER_AUTH_ENABLED, or listen on 127.0.0.1",
        )
    if security.tls is None:
        _log.warning(
            "server_speaks_plaintext",
            address=address,
            advice="calls, and credentials, can be read on the way; set TASKER_TLS_CERT_PATH and TASKER_TLS_KEY_PATH",
        )


def _tls(settings: SecuritySettings) -> TlsFiles:
    from tasker.rpc.tls import TlsFiles

    assert settings.tls_cert_path is not None
    assert settings.tls_key_path is not None
    return TlsFiles(settings.tls_cert_path, settings.tls_key_path, settings.tls_client_ca_path)


def _authenticator(settings: SecuritySettings) -> Authenticator:
    from tasker.rpc.credentials.refusals import Granting

    granting = Granting(strict=settings.strict_permissions)
    return Authenticator(
        tokens=_tokens(settings, granting),
        api_keys=_api_keys(settings, granting),
        api_key_header=settings.api_key_header,
        enforce_context_read=settings.enforce_context_read,
    )


def _tokens(settings: SecuritySettings, granting: Granting) -> TokenVerifier | None:
    if not settings.verifies_tokens:
        return None
    from tasker.rpc.credentials.tokens import TokenRules, TokenVerifier

    rules = TokenRules(
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        algorithms=settings.jwt_algorithms,
        leeway_seconds=settings.jwt_leeway_seconds,
        permissions_claim=settings.jwt_permissions_claim,
    )
    return TokenVerifier(rules, _verification_keys(settings), granting)


def _verification_keys(settings: SecuritySettings) -> VerificationKeys:
    if settings.jwks_url:
        from tasker.rpc.credentials.key_sets import KeySet, KeySetTimes
        from tasker.rpc.credentials.locations import KeySetLocation

        return KeySet(
            KeySetLocation(
                settings.jwks_url,
                allow_http=settings.jwks_allow_http,
                allow_private=settings.jwks_allow_private_hosts,
            ),
            KeySetTimes(settings.jwks_refresh_seconds, settings.jwks_max_stale_seconds),
            settings.jwt_algorithms,
        )
    from tasker.rpc.credentials.public_keys import StaticKeys, parse_public_keys

    if (path := settings.jwt_public_key_path) is not None:
        return StaticKeys(Reloaded([path], lambda: parse_public_keys(read_key_file(path), source=str(path))))
    text = (settings.jwt_public_key or "").replace(
        "\\n", "\n"
    )  # as files of settings write the end of a line
    return StaticKeys(Reloaded([], lambda: parse_public_keys(text.encode(), source="TASKER_JWT_PUBLIC_KEY")))


def _api_keys(settings: SecuritySettings, granting: Granting) -> Reloaded[ApiKeys] | None:
    from tasker.rpc.credentials.api_keys import parse_api_keys

    if (path := settings.api_keys_file) is not None:

        def read(*, again: bool) -> ApiKeys:
            # To start without a key is a mistake; to take away the last one is not.
            return parse_api_keys(read_key_file(path), source=str(path), granting=granting, may_be_none=again)

        return Reloaded([path], lambda: read(again=False), read_again=lambda: read(again=True))
    if settings.api_keys is None:
        return None
    text = settings.api_keys.get_secret_value().encode()
    return Reloaded([], lambda: parse_api_keys(text, source="TASKER_API_KEYS", granting=granting))
